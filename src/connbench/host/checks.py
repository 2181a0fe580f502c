"""What connbench checks on this machine before it measures, for `doctor` and for the start of a run."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from connbench.errors import ConnbenchError, ExitCode
from connbench.findings import Finding, Severity
from connbench.host.environment import governor, load
from connbench.linux import limits, sysctl
from connbench.linux.counters import read_busy_ticks
from connbench.linux.listeners import programs_of, read_listeners
from connbench.linux.process import usable_cpus
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, SocketOption, is_supported
from connbench.model import Listener, Loop, Plan, PortRange, format_ports, parse_ports
from connbench.safe_text import printable
from connbench.units import count

BUSY_PERCENT = 20.0
"""CPU use of other programs, over all CPUs in percent, above which they would disturb the measurement."""

OWN_LISTENERS = frozenset({Listener.BACKLOG, Listener.ACCEPT})
UNREADABLE = (OSError, LookupError, ValueError)
"""What is raised if files of /proc are missing, empty or emulated."""

ADVICE_ON_LOAD = "stop the other programs; mount the whole of /proc (proc(5)) to let connbench check"
MOUNT_PROC = "mount the whole of /proc (proc(5))"

MANY_WORKERS = 100
MOST_NAMED = 5


class Status(StrEnum):
    """The result of a check: a run reports nothing, a finding of that severity, or refuses to start (exit code 4)."""

    OK = "ok"
    NOTE = Severity.NOTE.value
    WARNING = Severity.WARNING.value
    INVALID = Severity.INVALID.value
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """A check and its result.

    Attributes:
        code: The code of the finding that a run reports if the check does not pass.
        name: What was checked; may be empty.
        verdict: The result.
        message: What was found.
        advice: What to do about it; empty if nothing is to be done.
    """

    code: str
    name: str
    verdict: Status
    message: str
    advice: str = ""

    @property
    def text(self) -> str:
        """The name and the message, for one line of a report."""
        return printable(f"{self.name}: {self.message}" if self.name else self.message)


def check_from_finding(finding: Finding) -> Check:
    """A finding that planning made, as a check."""
    return Check(finding.code, "", Status(finding.severity), finding.text, finding.advice)


def check_from_refusal(fault: ConnbenchError) -> Check:
    """The fault by which a run is refused, as a check."""
    return Check("refused", "", Status.REFUSED, fault.message, fault.hint)


def check_from_requirement(name: str, message: str, hint: str, *, is_met: bool) -> Check:
    """What a run needs of a resource, and whether it is there, as a check."""
    if is_met:
        return Check("room", name, Status.OK, message)
    return Check("room", name, Status.REFUSED, message, hint)


def namespace_check(plan: Plan) -> Check | None:
    """Whether a run has its own network namespace. None if it has not: planning made a finding with the reason."""
    return Check("namespace", "namespace", Status.OK, str(plan.namespace)) if plan.namespace.is_own else None


def option_check(option: SocketOption) -> Check:
    """Whether this kernel has a socket option. Without it, a run with a strategy that needs it is refused."""
    if is_supported(option):
        return Check("option", option.name, Status.OK, "supported")
    return Check(
        "option",
        option.name,
        Status.REFUSED,
        f"kernel {platform.release()} does not have it",
        f"Linux {option.since} has it; `connbench strategies` lists what runs here",
    )


def open_files_check(connections: int, listening: int = 0) -> Check:
    """How many worker processes the connections need under RLIMIT_NOFILE, next to `listening` listening sockets."""
    _, hard = limits.open_files()
    workers = -(-connections // max(1, hard - limits.SPARE_DESCRIPTORS - listening))
    processes = "process" if workers == 1 else "processes"
    message = f"hard limit {hard} for {connections} connections: {workers} worker {processes}"
    if workers > MANY_WORKERS:
        advice = f"to start the next worker takes time between two attempts; raise it as root: ulimit -Hn {connections}"
        return Check("open-files", "open files", Status.NOTE, message, advice)
    return Check("open-files", "open files", Status.OK, message)


def accept_queue_check(plan: Plan) -> Check | None:
    """Whether somaxconn lets connbench's listener keep all connections in its queue; None without such a listener."""
    if plan.listener not in OWN_LISTENERS:
        return None
    if plan.namespace.is_own:
        return Check("somaxconn", "somaxconn", Status.OK, f"set to {plan.connections} or more in its own namespace")
    somaxconn = sysctl.number(sysctl.SOMAXCONN)
    if somaxconn >= plan.connections:
        return Check("somaxconn", "somaxconn", Status.OK, str(somaxconn))
    return Check(
        "somaxconn",
        "somaxconn",
        Status.NOTE,
        f"{somaxconn} on this host for {plan.connections} connections",
        "connbench accepts the connections instead, on the same CPUs as the measurement",
    )


def cpu_load_check(seconds: float) -> Check:
    """Whether the machine is idle enough, measured over a number of seconds."""
    try:
        before = read_busy_ticks()
        time.sleep(seconds)
        busy, total = (after - first for after, first in zip(read_busy_ticks(), before, strict=True))
    except UNREADABLE as error:
        return Check(
            "cpu-load",
            "CPU load",
            Status.NOTE,
            f"not known: /proc/stat cannot be read ({_reason(error)})",
            ADVICE_ON_LOAD,
        )
    average = load()
    percent = 100 * busy / max(1, total)  # no tick in the shortest of spans
    message = f"{percent:.0f} % in use" + ("" if average is None else f", load {average:.2f}")
    if percent > BUSY_PERCENT:
        return Check("cpu-load", "CPU load", Status.WARNING, message, "stop the other programs, then measure")
    return Check("cpu-load", "CPU load", Status.OK, message)


def cpus_check() -> Check:
    """Whether there is a CPU for connbench's other processes beside the measured one."""
    number = len(usable_cpus())
    if number > 1:
        return Check("cpus", "CPUs", Status.OK, f"{number} usable")
    return Check(
        "cpus",
        "CPUs",
        Status.WARNING,
        "one usable CPU",
        "the progress display and the listener share it with the measurement: use -q",
    )


def governor_check(cpus: Iterable[int]) -> Check:
    """Whether the measured CPUs keep one frequency; if none is chosen, whether all usable CPUs do."""
    names = sorted({governor(cpu) or "" for cpu in cpus or usable_cpus()})
    if set(names) <= {"", "performance"}:
        return Check("governor", "governor", Status.OK, " ".join(names) or "none visible (a virtual machine?)")
    return Check(
        "governor",
        "governor",
        Status.WARNING,
        ", ".join(filter(None, names)),
        "for the run: cpupower frequency-set -g performance",
    )


def loop_check(loop: Loop, reason: str, advice: str) -> Check:
    """Which loop a run makes its attempts with, and if it is not the one in C, why and what to do about it."""
    if loop is Loop.C:
        return Check("loop", "loop", Status.OK, loop.language)
    return Check("loop", "loop", Status.NOTE, f"{loop.language}, because {reason}", advice)


def listeners_check() -> Check:
    """Whether connect() of another program can take the port of a listener on this host while the listener restarts.

    It can if the port lies in net.ipv4.ip_local_port_range and is not reserved. The listener then fails with
    EADDRINUSE.
    """
    try:
        ports, reserved = PortRange(*sysctl.read_port_range()), parse_ports(sysctl.required(sysctl.RESERVED_PORTS))
        listening = read_listeners()
    except ConnbenchError as fault:
        return Check("listeners", "listeners", Status.NOTE, f"not known: {fault.message}", fault.hint)
    except UNREADABLE as error:
        return Check(
            "listeners",
            "listeners",
            Status.NOTE,
            f"not known: /proc/net cannot be read ({_reason(error)})",
            MOUNT_PROC,
        )
    exposed = {port: inode for port, inode in sorted(listening.items()) if port in ports and port not in reserved}
    if not exposed:
        return Check("listeners", "listeners", Status.OK, f"no unreserved port of {ports} has a TCP listener")
    programs = programs_of(exposed.values())
    named = [f"{programs.get(inode, 'a program')} on {port}" for port, inode in exposed.items()]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return Check(
        "listeners",
        "listeners",
        Status.NOTE,
        f"{', '.join(named[:MOST_NAMED])}{more}: connect() can take such a port of {ports} while its listener restarts",
        f"reserve the fixed ports: sysctl -w {sysctl.RESERVED_PORTS}={format_ports(reserved | exposed.keys())}",
    )


def _reason(error: Exception) -> str:
    """Why a file of /proc cannot be read. Of unexpected content the text of an exception says nothing to a user."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def option_checks() -> list[Check]:
    """Whether this kernel has the socket options that strategies need: a check for each."""
    return [option_check(NO_PORT), option_check(LOCAL_PORT_RANGE)]


def checks_of_plan(plan: Plan, seconds: float) -> list[Check]:
    """All checks of a plan on this machine. They measure the CPU use over `seconds`."""
    found = (
        namespace_check(plan),
        open_files_check(plan.connections, len(plan.targets) if plan.listener in OWN_LISTENERS else 0),
        accept_queue_check(plan),
        cpus_check(),
        cpu_load_check(seconds),
        governor_check(plan.cpus),
    )
    return [check for check in found if check]


def checks_of_refusal(fault: ConnbenchError, seconds: float) -> list[Check]:
    """The checks for a run that is refused: the reason, and whether the machine is idle."""
    return [check_from_refusal(fault), cpus_check(), cpu_load_check(seconds), governor_check(())]


def findings_at_start(plan: Plan) -> list[Finding]:
    """The findings about this machine just before a run."""
    return [finding for finding in map(finding_from_check, checks_of_plan(plan, seconds=0.1)) if finding]


def finding_from_check(check: Check) -> Finding | None:
    """The finding of a check that did not pass; None if it passed, and if it refuses the run."""
    if check.verdict in {Status.OK, Status.REFUSED}:
        return None
    return Finding(check.code, Severity(check.verdict), check.text, check.advice)


_EXIT_CODES = {Status.REFUSED: ExitCode.ENVIRONMENT, Status.INVALID: ExitCode.UNSOUND}


def exit_code(checks: Sequence[Check]) -> ExitCode:
    """The exit code that a run on this machine would end with, as far as the checks tell; warnings do not change it."""
    verdicts = {check.verdict for check in checks}
    return next((code for verdict, code in _EXIT_CODES.items() if verdict in verdicts), ExitCode.OK)


def verdict(plan: Plan | None, checks: Sequence[Check]) -> tuple[str, ...]:
    """Doctor's verdict: how a full run here would end, and what to do next; a sentence each.

    Args:
        plan: The plan of the full run; None if it is refused.
        checks: All checks.
    """
    against = [check for check in checks if check.verdict in _EXIT_CODES]
    warnings = [check for check in checks if check.verdict is Status.WARNING]
    reasons = "; ".join(check.text for check in against or warnings)
    if plan is None or any(check.verdict is Status.REFUSED for check in against):
        return (f"A full run here would be refused (exit code {int(exit_code(checks))}): {reasons}.", *_advice(against))
    if against:
        return (
            f"A full run here would not be sound (exit code {int(exit_code(checks))}): {reasons}.",
            *_advice(against),
        )
    what = f"{count(plan.connections)} connections for each strategy, range {plan.port_range}, {plan.namespace}"
    if not warnings:
        seen = [check.text for check in checks if check.code in {"cpus", "cpu-load"}]
        return (f"A full run here would be sound: {', '.join([what, *seen])}.", "Next: connbench run")
    many = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    return (
        f"A full run here would end in exit code 0 with {many} in its report ({what}): {reasons}.",
        *_advice(warnings),
    )


def _advice(checks: Sequence[Check]) -> tuple[str, ...]:
    advice = "; ".join(dict.fromkeys(check.advice for check in checks if check.advice))
    return (f"Next: {advice}.",) if advice else ()
