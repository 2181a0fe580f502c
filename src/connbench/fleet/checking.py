"""`connbench fleet check`: whether every host of a fleet can measure, as its own doctor says, and how its clock goes.

It is a run of `connbench.fleet.controller` that ends before anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import connbench
from connbench.analysis.fleet_summary import CLOCK_OFFSET, MOST_OFFSET_US
from connbench.errors import ConnbenchError, ExitCode, RunFault
from connbench.findings import Finding, Severity
from connbench.fleet.controller import Controller, FleetRequest, Host, State
from connbench.fleet.hosts import Hosts, new_task
from connbench.fleet.protocol import Checked, CheckOrder, Hello, OneEvent, OneOrder, Pong
from connbench.host.checks import Status
from connbench.interrupts import Interrupts
from connbench.linux.limits import raise_open_files
from connbench.safe_text import printable
from connbench.units import NS_PER_US, duration

VERSION = "version"
"""Code of the finding that hosts have another connbench than this machine."""

HOST = "host"
"""Code of the finding that a host cannot be used."""


MOST_COMPARED = 4
"""Hosts whose clocks are compared at the same time: each answer waits while this machine reads others."""


@dataclass(frozen=True, slots=True)
class CheckedHost:
    """What is known of a host.

    Attributes:
        host: Its name in the host set.
        hello: Its versions; None if no agent has answered.
        checked: What its doctor found; None if it has not come so far.
        fault: Why not.
        offset_us: Its clock minus this machine's, in us; None if it was not compared.
        error_us: The largest error of that, in us.
    """

    host: str
    hello: Hello | None
    checked: Checked | None
    fault: ConnbenchError | None
    offset_us: float | None
    error_us: float | None

    @property
    def exit_code(self) -> ExitCode:
        """How a full run there would end, as far as its doctor tells."""
        if self.checked is None or self.fault:
            return ExitCode.ENVIRONMENT
        if not self.checked.exit_code:
            return ExitCode.OK
        return ExitCode.UNSOUND if self.checked.exit_code == ExitCode.UNSOUND else ExitCode.ENVIRONMENT

    @property
    def verdict(self) -> str:
        """The same in a word or two."""
        if self.exit_code is not ExitCode.OK:
            return "not sound" if self.exit_code is ExitCode.UNSOUND else "cannot"
        return "warnings" if any(one.severity is Severity.WARNING for one in self.findings) else "ok"

    @property
    def findings(self) -> Sequence[Finding]:
        """What is wrong with it, and what to do."""
        return [*self._find()]

    def _find(self) -> Iterator[Finding]:
        if self.fault:
            yield self._finding(HOST, Severity.INVALID, self.fault.message, self.fault.hint)
        for one in self.checked.checks if self.checked else ():
            if one.verdict == Status.REFUSED:
                yield self._finding(one.code, Severity.INVALID, one.text, one.advice)
            elif one.verdict in {severity.value for severity in Severity}:
                yield self._finding(one.code, Severity(one.verdict), one.text, one.advice)
        if self.hello and self.hello.connbench != connbench.__version__:
            message = f"it has connbench {self.hello.connbench}, and this machine {connbench.__version__}"
            yield self._finding(VERSION, Severity.WARNING, message, "install the same one there, or give --push")
        if self.error_us is not None and self.error_us > MOST_OFFSET_US:
            error, longest = (duration(us * NS_PER_US) for us in (self.error_us, 2 * MOST_OFFSET_US))
            message = f"its clock is known to {error} only: with --together it may begin so much earlier or later"
            advice = f"let it, and this machine, do nothing else; pings have to come back within {longest}"
            yield self._finding(CLOCK_OFFSET, Severity.WARNING, message, advice)

    def _finding(self, code: str, severity: Severity, message: str, advice: str) -> Finding:
        return Finding(printable(code), severity, printable(message), printable(advice), self.host)


def check_everywhere(hosts: Hosts, interrupts: Interrupts) -> Sequence[CheckedHost]:
    """Have every host check itself.

    Args:
        hosts: The hosts.
        interrupts: Checked five times a second.

    Raises:
        EnvironmentFault: ssh, or ip, is not installed here.
        Interrupted: A signal came.
    """
    raise_open_files()
    interrupts.immediate = False
    with new_task(hosts) as task:
        controller = _Checker(FleetRequest(hosts, ()), _Nobody(), interrupts, task)
        controller.run()
    if controller.stopped:
        raise controller.stopped
    return [_checked(host) for host in controller.hosts]


def _checked(host: Host) -> CheckedHost:
    fault = host.fault
    if fault is None and not host.checked:
        fault = RunFault("it did not answer", "run it again")
    if host.offset_ns is None:
        return CheckedHost(host.name, host.hello, host.checked, fault, None, None)
    offset_us, error_us = host.offset_ns / NS_PER_US, host.error_ns / NS_PER_US
    return CheckedHost(host.name, host.hello, host.checked, fault, offset_us, error_us)


class _Checker(Controller):
    """Orders a check of each host in place of a run; no host waits for another, and none stops the others."""

    def _first_order(self) -> OneOrder:
        return CheckOrder()

    def _gather(self) -> None:
        """Compare the clocks once no host is busy with its checks, nor this machine with what it sends."""
        if any(host.state < State.READY for host in self.hosts):
            return
        ready = [host for host in self.hosts if host.state is State.READY]
        comparing = sum(host.pings > 0 for host in ready)
        for host in [host for host in ready if host.pings == 0][: max(0, MOST_COMPARED - comparing)]:
            self._synchronise(host)

    def _has_answered(self, host: Host) -> bool:
        return host.checked is not None

    def _take(self, host: Host, event: OneEvent) -> None:
        if isinstance(event, Checked) and host.state is State.PLANNING:
            host.checked = event
            self._change(host, State.READY)
            return
        super()._take(host, event)
        if isinstance(event, Pong) and host.checked and host.is_compared and host.state is State.READY:
            self._take_clock(host)
            self._end(host)


class _Nobody:
    """Watches nothing."""

    def changed(self, host: Host) -> None:
        """Do nothing."""

    def refresh(self, hosts: Sequence[Host]) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""

    def warn(self, hosts: Sequence[str], text: str, advice: str) -> None:
        """Do nothing."""
