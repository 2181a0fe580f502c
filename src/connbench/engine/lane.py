"""A lane: holders one after the other, so that more connections are open at once than one process may have."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from dataclasses import dataclass, field, replace
from operator import add
from typing import Any

from connbench.engine.holder import StopRequestedError, run_holder, to_state
from connbench.engine.loop import Share
from connbench.errors import RunFault
from connbench.linux.process import describe_end
from connbench.roundreport import HolderReport


@dataclass(slots=True)
class _Holder:
    pid: int
    channel: socket.socket
    text: bytes = b""


@dataclass(slots=True)
class Lane:
    """The holders of a round, in the order they were started, and what they reported."""

    holders: list[_Holder] = field(default_factory=list)
    reports: list[HolderReport] = field(default_factory=list)
    stopped: bool = False

    def fill(self, share: Share) -> None:
        """Start holders until the plan's last attempt is made, or SIGTERM asks to stop.

        Args:
            share: What the first holder opens; later ones follow from it.

        Raises:
            RunFault: A holder reports a fault or is gone, or SIGTERM came. What the others hold stays open.
        """
        while share.first < share.plan.connections and not self.stopped:
            answer = self._run_one(share)
            if answer is None:
                break
            if "crash" in answer:
                raise RunFault(f"a holder process broke: {answer['crash']}", "report this as a bug")
            report = HolderReport(**answer["report"])
            self.reports.append(report)
            self.stopped |= answer["stopped"]
            if answer["fault"]:
                raise RunFault(**answer["fault"])
            share.retries.setstate(to_state(answer["retries"]))
            held = tuple(map(add, share.held_before, answer["opened_by_source"]))
            share = replace(share, first=share.first + report.attempts, held_before=held)
        if self.stopped:
            raise RunFault("the engine or a holder was stopped by SIGTERM", "run it again for the rest")

    def _run_one(self, share: Share) -> dict[str, Any] | None:
        """One holder's answer; None if it was stopped before it had one."""
        ours, theirs = socket.socketpair()
        engine = os.getpid()
        # A SIGTERM between fork() and the holder's own handler would unwind the engine's stack in the holder.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self.holders:
                other.channel.close()
            run_holder(share, theirs, engine)
        theirs.close()
        self.holders.append(_Holder(pid, ours))
        while True:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                return self._answer_of_last()
            except StopRequestedError:
                self.stopped = True
                os.kill(pid, signal.SIGTERM)

    def _answer_of_last(self) -> dict[str, Any] | None:
        """Wait for the newest holder's report, watching that all others live."""
        newest = self.holders[-1]
        poller = select.poll()
        by_descriptor = {holder.channel.fileno(): holder for holder in self.holders}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.POLLIN)
        while not newest.text.endswith(b"\n"):
            for descriptor, _ in poller.poll():
                holder = by_descriptor[descriptor]
                piece = holder.channel.recv(65536)
                holder.text += piece
                if not piece:
                    if self.stopped and holder is newest:
                        return None
                    raise self._lost(holder)
        answer: dict[str, Any] = json.loads(newest.text)
        return answer

    def _lost(self, holder: _Holder) -> RunFault:
        status = os.waitstatus_to_exitcode(os.waitpid(holder.pid, 0)[1])
        self.holders.remove(holder)
        how, advice = describe_end(status)
        return RunFault(f"holder process {holder.pid} {how} while the round ran", advice)

    def count_established(self) -> int:
        """How many of the connections made are still established, asked of the kernel by each holder.

        Raises:
            RunFault: A holder is gone.
        """
        total = 0
        for holder in list(self.holders):
            holder.channel.sendall(b"?")
            answer = holder.channel.recv(64)
            if not answer:
                raise self._lost(holder)
            total += int(answer)
        return total

    def close(self) -> None:
        """Have every holder reset its connections, and wait until all are gone."""
        for holder in self.holders:
            holder.channel.close()
        for holder in self.holders:
            os.waitpid(holder.pid, 0)
        self.holders.clear()
