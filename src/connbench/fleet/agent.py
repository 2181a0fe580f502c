"""The agent: measures on this host what a controller orders over stdin, and tells over stdout how it goes.

One thread does all. It reads its orders where it waits, and five times a second while a round runs; a timer looks
once a second whether the controller is still there, whatever else the thread does. Once stdin has ended, the run is
stopped as by SIGHUP, and after `GRACE_S` the process ends with all that it started: the kernel then closes every
connection. The result is in memory that the controller copies from /proc/PID/fd/N, and that ends with the process: no
file is left on the host, however the agent ends.
"""

from __future__ import annotations

import gzip
import os
import platform
import select
import shlex
import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import connbench
from connbench.commands.doctor import examine
from connbench.commands.progress import round_name
from connbench.commands.run import request_of
from connbench.errors import ConnbenchError, Interrupted
from connbench.fleet.protocol import (
    LONGEST_LINE,
    LONGEST_TEXT,
    MOST_CHECKS,
    PROTOCOL,
    SILENCE_S,
    Checked,
    CheckOrder,
    CheckRecord,
    Done,
    End,
    Failed,
    FaultRecord,
    Go,
    Hello,
    OneEvent,
    OneOrder,
    Ping,
    PlanOrder,
    Pong,
    ProgressEvent,
    Ready,
    Stop,
    Waiting,
    WarningRecord,
    decode_order,
    encode,
    signal_of,
)
from connbench.host import checks, environment
from connbench.linux.faults import fault_of
from connbench.model import RoundPlan
from connbench.planner.planner import make_plan
from connbench.results.output_file import GZIP_LEVEL
from connbench.results.plain_document import PlainResult
from connbench.rounds import run_rounds

if TYPE_CHECKING:
    from connbench.findings import Finding
    from connbench.interrupts import Interrupts
    from connbench.model import Plan
    from connbench.rounds import Progress

_Order = TypeVar("_Order", bound=OneOrder)

POLL_MS = 200
"""How long a signal may take to be noticed while the agent waits for an order."""

PROGRESS_EVERY_S = 0.5
"""Seconds between two `progress` events."""

KILL_AFTER_S, GRACE_S = 2.0, 4.0
"""Seconds after the end of stdin: then the engine is killed, and this process ends."""


class Channel:
    """The two pipes to the controller.

    They get descriptors of their own, so that no library writes into them: what is printed goes to stderr.

    Attributes:
        closed_at: When the controller was found to be gone, by time.monotonic(); None while it is there.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._unread = b""
        self._lines: deque[bytes] = deque()
        # Two, as `watch` runs in the middle of a poll(), and one object refuses a second one.
        self._poller, self._poller_of_watch = select.poll(), select.poll()
        for poller in (self._poller, self._poller_of_watch):
            poller.register(self._in, select.POLLIN | select.POLLRDHUP)
        self._heard_at = time.monotonic()
        self.closed_at: float | None = None

    def say(self, event: OneEvent) -> None:
        """Send an event; nothing if the controller is gone."""
        line = encode(event)
        try:
            while line:
                line = line[os.write(self._out, line) :]
        except OSError:  # EPIPE
            self._close()

    def next_order(self, wait_ms: int = 0) -> OneOrder | None:
        """The next order; None if none arrives in time. Those before the end of stdin count, too.

        Args:
            wait_ms: How long to wait for it, in ms.

        Raises:
            RunFault: The controller sent something else.
        """
        if not self._lines:
            self._read(wait_ms)
        return decode_order(self._lines.popleft()) if self._lines else None

    def _read(self, wait_ms: int) -> None:
        """Read what has arrived, and see whether the controller is gone or has been silent for too long."""
        if self.closed_at is not None:
            return
        if self._poller.poll(wait_ms):
            piece = os.read(self._in, LONGEST_LINE)
            if not piece:
                self._close()
            self._heard_at = time.monotonic()
            *lines, self._unread = (self._unread + piece).split(b"\n")
            self._lines.extend(lines)
            if len(self._unread) > LONGEST_LINE:
                self._lines.append(self._unread)  # which `decode_order` refuses
        elif time.monotonic() - self._heard_at > SILENCE_S:
            self._close()

    def watch(self) -> None:
        """End this process where the controller has been gone for `GRACE_S`: the handler of a timer.

        The kernel ends engine and workers with it. Whatever the process does at this moment is not of interest.
        """
        events = self._poller_of_watch.poll(0)
        if self.closed_at is None and any(event & (select.POLLHUP | select.POLLRDHUP) for _, event in events):
            self._close()
        if self.closed_at is not None and time.monotonic() - self.closed_at > GRACE_S:
            os._exit(128 + signal.SIGHUP)

    def _close(self) -> None:
        if self.closed_at is None:
            self.closed_at = time.monotonic()


class Agent:
    """A run on this host, from the first line to the last.

    Args:
        interrupts: The handler of signals of this process.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._channel = Channel()
        self._next_progress = 0.0

    def serve(self) -> int:
        """Do what the controller orders, until it says that it has everything; the exit code."""
        self._interrupts.immediate = False
        signal.signal(signal.SIGALRM, lambda _number, _frame: self._channel.watch())
        signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
        try:
            return self._serve()
        except Exception as error:  # noqa: BLE001  # whatever it is, the controller is told
            fault = fault_of(error)
            self._channel.say(Failed(FaultRecord.of(fault)))
            return fault.exit_code
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _serve(self) -> int:
        self._channel.say(
            Hello(
                PROTOCOL,
                connbench.__version__,
                platform.python_version(),
                os.uname().release,
                os.uname().nodename,
                os.getpid(),
            )
        )
        order: CheckOrder | PlanOrder = self._wait_for((CheckOrder, PlanOrder))  # type: ignore[assignment]  # mypy: any order
        if isinstance(order, CheckOrder):
            self._channel.say(_check())
            self._wait_for(End)
            return 0
        plan, known = make_plan(request_of(order.options, "connbench fleet run"))
        turns = plan.rounds * len(plan.strategies)
        self._channel.say(
            Ready(
                turns,
                tuple(spec.label for spec in plan.strategies),
                _attempts(plan),
                tuple(WarningRecord(one.text[:LONGEST_TEXT], one.advice[:LONGEST_TEXT]) for one in known[:100]),
            )
        )
        if not order.together:
            self._wait_for(Go)
        result, fault = self._measure(plan, known, order)
        descriptor, size = -1, 0
        if result.attempts:
            try:
                descriptor, size = self._in_memory(result)
            except Exception as error:  # noqa: BLE001  # no memory, or a bug: the controller is told
                fault = fault_of(error)
        self._channel.say(Done(descriptor if size else None, size, FaultRecord.of(fault) if fault else None))
        with suppress(Interrupted):
            self._wait_for(End, is_stoppable=False)
        return fault.exit_code if fault else 0

    def _measure(
        self, plan: Plan, known: Sequence[Finding], order: PlanOrder
    ) -> tuple[PlainResult, ConnbenchError | None]:
        """Run the plan; the result so far, and what ended it early."""
        command = shlex.join(["connbench", "run", *order.options])
        machine = environment.collect(plan.cpus) | {"command": command}
        result = PlainResult(plan, machine, [*known, *checks.findings_at_start(plan)])
        fault: ConnbenchError | None = None

        def start(turn: RoundPlan) -> int:
            self._channel.say(Waiting(self._number(turn)))
            return self._wait_for(Go).at_ns

        try:
            run_rounds(
                *(plan, result.add, self._show, lambda _turn: None, self._interrupts),
                start if order.together else None,
            )
        except Exception as error:  # noqa: BLE001  # after any fault the rounds until then are kept
            fault = fault_of(error)
        return result, fault

    def _show(self, progress: Progress) -> None:
        """Tell how far the round is, at most every `PROGRESS_EVERY_S`, and obey what was ordered meanwhile."""
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_EVERY_S
            plan = progress.plan
            self._channel.say(
                ProgressEvent(
                    self._number(plan),
                    round_name(plan)[:LONGEST_TEXT],
                    progress.done,
                    plan.attempts,
                    progress.recent_mean_ns,
                )
            )
        self._heed()
        closed_at = self._channel.closed_at
        if closed_at is not None and (not self._interrupts.number or now - closed_at > KILL_AFTER_S):
            self._interrupt(signal.SIGHUP)  # for the second time this kills the engine

    def _heed(self, *, is_stoppable: bool = True) -> None:
        """Obey what was ordered meanwhile: while a run goes on, or where it has ended and there is nothing to stop."""
        while order := self._channel.next_order():
            match order:
                case Ping():
                    self._pong(order)
                case Stop() if is_stoppable:
                    self._interrupt(signal_of(order))
                case End():
                    self._interrupt(signal.SIGHUP)
                case _:
                    pass  # an order that is of no use now

    def _in_memory(self, result: PlainResult) -> tuple[int, int]:
        """Write a result into memory that other processes can read from /proc; its descriptor, and its size in bytes.

        Raises:
            Interrupted: Nobody wants it any more.
        """
        descriptor = os.memfd_create("connbench-result")
        with (
            os.fdopen(os.dup(descriptor), "wb") as file,
            gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
        ):
            for piece in result.pieces():
                packed.write(piece)
                self._heed(
                    is_stoppable=False
                )  # a million attempts take seconds, and silence would be taken for a fault
                if self._channel.closed_at is not None:
                    raise Interrupted(signal.SIGHUP)
        return descriptor, os.fstat(descriptor).st_size

    def _interrupt(self, number: int) -> None:
        """End the round as that signal does."""
        self._interrupts.number, self._interrupts.is_pending = number, True

    def _pong(self, ping: Ping) -> None:
        self._channel.say(Pong(ping.number, time.clock_gettime_ns(time.CLOCK_REALTIME)))

    def _wait_for(self, kind: type[_Order] | tuple[type[_Order], ...], *, is_stoppable: bool = True) -> _Order:
        """Wait for an order of this kind, and answer pings meanwhile; `is_stoppable` as in `_heed`.

        Raises:
            Interrupted: A signal came, the controller stopped the run, or is gone.
        """
        while True:
            order = self._channel.next_order(POLL_MS)
            match order:
                case Ping():
                    self._pong(order)
                case _ if isinstance(order, kind):
                    return order
                case Stop() if is_stoppable:
                    raise Interrupted(signal_of(order))
                case End():
                    raise Interrupted(signal.SIGHUP)
                case None if self._channel.closed_at is not None:
                    raise Interrupted(signal.SIGHUP)
                case _:
                    pass  # as above
            self._interrupts.check()

    def _number(self, plan: RoundPlan) -> int:
        """The number of a turn, from 1."""
        strategies = plan.plan.strategies
        place = next(i for i, one in enumerate(strategies) if plan.strategy in one.phases)
        return (plan.number - 1) * len(strategies) + place + 1


def _check() -> Checked:
    """What `connbench doctor` finds here."""
    found = examine()
    records = [
        CheckRecord(one.code, one.verdict.value, one.text[:LONGEST_TEXT], one.advice[:LONGEST_TEXT])
        for one in found.checks[:MOST_CHECKS]
    ]
    return Checked(int(found.exit_code), tuple(records), tuple(one[:LONGEST_TEXT] for one in found.verdict))


def _attempts(plan: Plan) -> int:
    """The attempts of all turns."""
    return plan.rounds * sum(RoundPlan(plan, spec, 1).attempts for spec in plan.phases)
