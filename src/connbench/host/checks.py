"""What can be known before measuring: checks with a verdict and advice, for `doctor` and for a run's start alike."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from connbench.errors import ConnbenchError
from connbench.findings import Finding, Severity, printable
from connbench.host.environment import governor, load
from connbench.linux import limits, sysctl
from connbench.linux.process import usable_cpus
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, SocketOption, is_supported
from connbench.model import Listener, Plan, PortRange, format_ports, parse_ports

BUSY_PERCENT = 20.0
"""CPU use over all CPUs, before anything is started, above which the figures would be of two things at once."""

LISTENERS_OF_OURS = frozenset({Listener.BACKLOG, Listener.ACCEPT})
UNREADABLE = (OSError, LookupError, TypeError, ValueError, RuntimeError)
"""What psutil raises where files of /proc are missing, empty or those of an emulation, beside its own errors."""

SEE_FOR_YOURSELF = "stop what else runs here; mount the whole of /proc (proc(5)) to have it checked"
MOUNT_PROC = "mount the whole of /proc (proc(5))"

MANY_WORKERS = 100
MOST_NAMED = 5


class Verdict(StrEnum):
    """What a run says of a check: nothing, a finding of that severity, or that it is refused (exit code 4)."""

    OK = "ok"
    NOTE = Severity.NOTE.value
    WARNING = Severity.WARNING.value
    INVALID = Severity.INVALID.value
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `code` is that of the finding it becomes in a run, where it did not pass."""

    code: str
    name: str
    verdict: Verdict
    message: str
    advice: str = ""

    @property
    def text(self) -> str:
        """What was looked at, and what was seen."""
        return printable(f"{self.name}: {self.message}" if self.name else self.message)


def of_finding(finding: Finding) -> Check:
    """What a run warns of beforehand, as a check."""
    return Check(finding.code, "", Verdict(finding.severity), finding.text, finding.advice)


def of_refusal(fault: ConnbenchError) -> Check:
    """Why a run is refused, as a check."""
    return Check("refused", "", Verdict.REFUSED, fault.message, fault.hint)


def of_requirement(name: str, message: str, hint: str, *, is_met: bool) -> Check:
    """What a run takes of one thing and what there is, as a check."""
    if is_met:
        return Check("room", name, Verdict.OK, message)
    return Check("room", name, Verdict.REFUSED, message, hint)


def check_namespace(plan: Plan) -> Check | None:
    """That a run has a network namespace of its own; where it has none, planning has a finding with the reason."""
    return Check("namespace", "namespace", Verdict.OK, str(plan.namespace)) if plan.namespace.is_own else None


def check_option(option: SocketOption) -> Check:
    """Whether this kernel has a socket option; a run that needs it is refused without it."""
    if is_supported(option):
        return Check("option", option.name, Verdict.OK, "supported")
    return Check(
        "option",
        option.name,
        Verdict.REFUSED,
        f"unknown to kernel {platform.release()}",
        f"Linux {option.since} brings it; `connbench strategies` lists what runs here",
    )


def check_descriptors(connections: int, listening: int = 0) -> Check:
    """How many processes hold that many connections under RLIMIT_NOFILE, beside so many sockets that listen."""
    _, hard = limits.open_files()
    workers = -(-connections // max(1, hard - limits.SPARE_DESCRIPTORS - listening))
    processes = "process" if workers == 1 else "processes"
    message = f"hard limit {hard} for {connections} connections: {workers} worker {processes}"
    if workers > MANY_WORKERS:
        advice = f"a change of process takes time between two attempts; raise it as root: ulimit -Hn {connections}"
        return Check("open-files", "open files", Verdict.NOTE, message, advice)
    return Check("open-files", "open files", Verdict.OK, message)


def check_queue(plan: Plan) -> Check | None:
    """Whether its own listener queues the connections without accepting them; None without such a listener."""
    if plan.listener not in LISTENERS_OF_OURS:
        return None
    if plan.namespace.is_own:
        return Check("somaxconn", "somaxconn", Verdict.OK, f"set to {plan.connections} or more in its own namespace")
    somaxconn = sysctl.number(sysctl.SOMAXCONN)
    if somaxconn >= plan.connections:
        return Check("somaxconn", "somaxconn", Verdict.OK, str(somaxconn))
    return Check(
        "somaxconn",
        "somaxconn",
        Verdict.NOTE,
        f"{somaxconn} on this host for {plan.connections} connections",
        "an accepting listener is used instead, on the same CPUs as the measurement",
    )


def check_load(seconds: float) -> Check:
    """Whether the machine is idle enough, watched for so many seconds."""
    import psutil  # noqa: PLC0415  # 20 ms, and only this function needs it

    try:
        busy = psutil.cpu_percent(interval=seconds)
    except (*UNREADABLE, psutil.Error) as error:
        return Check(
            "cpu-load",
            "CPU load",
            Verdict.NOTE,
            f"not known: /proc/stat tells nothing ({_why(error)})",
            SEE_FOR_YOURSELF,
        )
    average = load()
    message = f"{busy:.0f} % in use" + ("" if average is None else f", load {average:.2f}")
    if busy > BUSY_PERCENT:
        return Check("cpu-load", "CPU load", Verdict.WARNING, message, "stop what else runs here, then measure")
    return Check("cpu-load", "CPU load", Verdict.OK, message)


def check_cpus() -> Check:
    """Whether the measured CPU can be kept clear of everything else connbench does."""
    number = len(usable_cpus())
    if number > 1:
        return Check("cpus", "CPUs", Verdict.OK, f"{number} usable")
    return Check(
        "cpus",
        "CPUs",
        Verdict.WARNING,
        "one usable CPU",
        "the progress display and the listener share it with the measurement: use -q",
    )


def check_governor(cpus: Iterable[int]) -> Check:
    """Whether the measured CPUs, or any usable one where none is chosen, keep one frequency."""
    names = sorted({governor(cpu) or "" for cpu in cpus or usable_cpus()})
    if set(names) <= {"", "performance"}:
        return Check("governor", "governor", Verdict.OK, " ".join(names) or "none to be seen (a virtual machine?)")
    return Check(
        "governor",
        "governor",
        Verdict.WARNING,
        ", ".join(filter(None, names)),
        "cpupower frequency-set -g performance, for the run",
    )


def check_listeners() -> Check:
    """Whether a program that connects can be given the port that a program of this host listens on.

    It can while the listener restarts, if the port lies in net.ipv4.ip_local_port_range and is not reserved. The
    listener then fails with EADDRINUSE.
    """
    try:
        ports, reserved = PortRange(*sysctl.read_port_range()), parse_ports(sysctl.required(sysctl.RESERVED_PORTS))
        listening = _listening()
    except ConnbenchError as fault:
        return Check("listeners", "listeners", Verdict.NOTE, f"not known: {fault.message}", fault.hint)
    except UNREADABLE as error:
        return Check(
            "listeners", "listeners", Verdict.NOTE, f"not known: /proc/net tells nothing ({_why(error)})", MOUNT_PROC
        )
    exposed = {port: name for port, name in sorted(listening.items()) if port in ports and port not in reserved}
    if not exposed:
        return Check("listeners", "listeners", Verdict.OK, f"no unreserved port of {ports} has a TCP listener")
    named = [f"{name or 'a program'} on {port}" for port, name in exposed.items()]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return Check(
        "listeners",
        "listeners",
        Verdict.NOTE,
        f"{', '.join(named[:MOST_NAMED])}{more}: connect() can take such a port of {ports} while its listener restarts",
        f"reserve those that are fixed: sysctl -w {sysctl.RESERVED_PORTS}={format_ports(reserved | exposed.keys())}",
    )


def _listening() -> dict[int, str]:
    """The TCP ports of this network namespace that have a listener, each with its program's name if we may see it."""
    import psutil  # noqa: PLC0415  # 20 ms, and only these functions need it

    found: dict[int, str] = {}
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error as error:
        raise RuntimeError(str(error)) from error
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            port = connection.laddr.port
            found.setdefault(port, "")
            with suppress(psutil.Error):  # it has ended meanwhile
                found[port] = psutil.Process(connection.pid).name() if connection.pid else found[port]
    return found


def _why(error: Exception) -> str:
    """What psutil stumbled over; of a file without its words it says nothing itself."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def options() -> list[Check]:
    """Whether this kernel has the socket options that strategies need."""
    return [check_option(NO_PORT), check_option(LOCAL_PORT_RANGE)]


def of_plan(plan: Plan, seconds: float) -> list[Check]:
    """Every check of a plan on this machine as it is now; its CPU use is watched for so many seconds."""
    found = (
        check_namespace(plan),
        check_descriptors(plan.connections, len(plan.targets) if plan.listener in LISTENERS_OF_OURS else 0),
        check_queue(plan),
        check_cpus(),
        check_load(seconds),
        check_governor(plan.cpus),
    )
    return [check for check in found if check]


def without_plan(fault: ConnbenchError, seconds: float) -> list[Check]:
    """What can be checked where a run is refused: why, and how quiet the machine is."""
    return [of_refusal(fault), check_cpus(), check_load(seconds), check_governor(())]


def at_start(plan: Plan) -> list[Finding]:
    """What a run's report says of the machine, looked at just before it begins."""
    return [finding for finding in map(as_finding, of_plan(plan, seconds=0.1)) if finding]


def as_finding(check: Check) -> Finding | None:
    """A check that did not pass, as a finding of a run; None for one that did, and for what a run is refused for."""
    if check.verdict in {Verdict.OK, Verdict.REFUSED}:
        return None
    return Finding(check.code, Severity(check.verdict), check.text, check.advice)
