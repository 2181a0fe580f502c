"""All lanes of a round: their scripts run at the same time, and every holder is watched meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterable

from connbench.engine.lane import STOPPED, Answer, Holder, Lane, Script, start_holder
from connbench.engine.share import Share
from connbench.errors import RunFault
from connbench.linux.process import describe_end
from connbench.model import Phase
from connbench.roundreport import HolderReport


class StopSign:
    """SIGTERM of this process, from now on, as a descriptor to poll: nothing is broken off by it where it stands."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _signal, _frame: None)


class Crew:
    """The lanes of a round.

    Args:
        shares: What each lane is to make, lane by lane.
    """

    def __init__(self, shares: list[Share]) -> None:
        self._plan = shares[0].plan
        self._lanes = [Lane(share, self._start) for share in shares]
        self._holders: dict[int, Holder] = {}
        """Those alive, by the descriptor of their channel."""
        self._waiting: dict[int, Script] = {}
        """Scripts that wait for an answer, by the holder's."""
        self._fault: RunFault | None = None
        self._is_stopped = False
        self._sign = StopSign()
        self._poller = select.poll()
        self._poller.register(self._sign.reader, select.POLLIN)

    @property
    def reports(self) -> tuple[HolderReport, ...]:
        """What the holders say of the phase that was run last, lane by lane."""
        return tuple(report for lane in self._lanes for report in lane.reports)

    def run(self, phase: Phase) -> None:
        """Run a phase to its end, or until SIGTERM asks to stop.

        Raises:
            RunFault: A holder reports a fault or is gone, or SIGTERM came. What the others hold stays open.
        """
        self._fault = RunFault(*STOPPED) if self._is_stopped else None
        if phase is Phase.FILL:
            self._run(lane.get_ready() for lane in self._lanes)
            self._run(lane.fill() for lane in self._lanes)
        else:
            rows = self._plan.rows_of_lanes(phase)
            self._run(lane.churn(of_lane) for lane, of_lane in zip(self._lanes, rows, strict=True))

    def count(self) -> tuple[int, int]:
        """How many connections the holders hold, and how many of these the kernel says are still established.

        Raises:
            RunFault: A holder is gone.
        """
        held = established = 0
        self._fault = None

        def ask() -> Script:
            nonlocal held, established
            for holder in list(self._holders.values()):
                answer = yield holder.tell("count")
                held += answer["held"]
                established += answer["established"]

        self._run([ask()], heeds_stop=False)
        return held, established

    def close(self) -> None:
        """Have every holder reset its connections, and wait until all are gone."""
        for holder in self._holders.values():
            holder.channel.close()
        for holder in self._holders.values():
            os.waitpid(holder.pid, 0)
        self._holders.clear()

    def _start(self, share: Share) -> Holder:
        try:
            holder = start_holder(share, self._holders.values())
        except OSError as error:  # no process, or no socket pair, to be had
            raise RunFault(
                f"no further holder process: {error.strerror}",
                "raise RLIMIT_NPROC, the cgroup's pids.max or RLIMIT_NOFILE, or ask for fewer with -n",
            ) from error
        self._holders[holder.channel.fileno()] = holder
        self._poller.register(holder.channel, select.POLLIN)
        return holder

    def _run(self, scripts: Iterable[Script], *, heeds_stop: bool = True) -> None:
        """Run scripts to their ends; after a fault, or SIGTERM, every holder at work stops and reports first."""
        if self._fault:
            raise self._fault
        for script in scripts:
            self._go_on(script, None)
        while self._waiting:
            for descriptor, _ in self._poller.poll():
                if descriptor == self._sign.reader:
                    os.read(descriptor, 64)
                    self._is_stopped = True
                    if heeds_stop:
                        self._end_early(RunFault(*STOPPED))
                elif descriptor in self._holders:
                    self._hear(self._holders[descriptor])
        if self._fault:
            raise self._fault

    def _go_on(self, script: Script, answer: Answer | None) -> None:
        try:
            holder = script.send(answer)  # type: ignore[arg-type]  # None is what begins a generator
        except StopIteration:
            return
        except RunFault as fault:
            self._end_early(fault)
            return
        self._waiting[holder.channel.fileno()] = script

    def _hear(self, holder: Holder) -> None:
        descriptor = holder.channel.fileno()
        piece = holder.receive()
        if not piece:
            self._waiting.pop(descriptor, None)
            self._end_early(self._lost(holder))
        elif holder.text.endswith(b"\n"):
            answer: Answer = json.loads(holder.text)
            holder.text = b""
            script = self._waiting.pop(descriptor)
            if "crash" in answer:
                self._end_early(RunFault(f"a holder process broke: {answer['crash']}", "report this as a bug"))
            else:
                self._go_on(script, answer)

    def _end_early(self, fault: RunFault) -> None:
        """Remember the first fault, and have what is at work stop."""
        if self._fault:
            return
        self._fault = fault
        for lane in self._lanes:
            lane.stopped = True
        for descriptor in self._waiting:
            os.kill(self._holders[descriptor].pid, signal.SIGTERM)

    def _lost(self, holder: Holder) -> RunFault:
        self._poller.unregister(holder.channel)
        del self._holders[holder.channel.fileno()]
        holder.channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(holder.pid, 0)[1])
        how, advice = describe_end(status)
        return RunFault(f"holder process {holder.pid} {how} while the round ran", advice)
