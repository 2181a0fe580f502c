"""What can be known before measuring: small checks with a verdict and advice, for `doctor` and for a run's start."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from connbench.findings import Finding, Severity
from connbench.host.environment import governor
from connbench.linux import limits, sysctl
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT, SocketOption, is_supported
from connbench.model import Namespace, PortRange, format_ports, parse_ports

BUSY_PERCENT = 20.0
"""CPU use over all CPUs, before anything is started, above which the figures would be of two things at once."""

FEWEST_DESCRIPTORS = 64
MANY_HOLDERS = 100
MOST_NAMED = 5


class Verdict(StrEnum):
    """`FAIL` means that a full run would not be sound, `WARN` that its figures need care."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    verdict: Verdict
    message: str
    advice: str = ""


def check_namespace(namespace: Namespace, reason: str) -> Check:
    """Whether a run has a network namespace of its own; arguments from `connbench.linux.namespace.best_available`."""
    if namespace.is_own:
        return Check("namespace", Verdict.OK, str(namespace))
    return Check(
        "namespace",
        Verdict.FAIL,
        f"no network namespace of its own: {reason}",
        "run as root, or allow user namespaces (kernel.unprivileged_userns_clone, user.max_user_namespaces)",
    )


def check_option(option: SocketOption) -> Check:
    """Whether this kernel has a socket option."""
    if is_supported(option):
        return Check(option.name, Verdict.OK, "supported")
    return Check(
        option.name,
        Verdict.FAIL,
        f"unknown to kernel {platform.release()}",
        f"Linux {option.since} brings it; until then the strategies that need it are refused",
    )


def check_descriptors(connections: int) -> Check:
    """Whether RLIMIT_NOFILE lets that many connections be held, by however many processes."""
    _, hard = limits.open_files()
    message = f"hard limit {hard} for {connections} connections"
    if hard < FEWEST_DESCRIPTORS:
        return Check("open files", Verdict.FAIL, message, "raise it: ulimit -Hn 20000")
    holders = -(-connections // hard)
    if holders > MANY_HOLDERS:
        advice = f"{holders} holder processes will be needed; raise it: ulimit -Hn {connections}"
        return Check("open files", Verdict.WARN, message, advice)
    plural = "process" if holders == 1 else "processes"
    return Check("open files", Verdict.OK, f"{message}: {holders} holder {plural}")


def check_somaxconn(namespace: Namespace, connections: int, somaxconn: int) -> Check:
    """Whether a listener can queue that many connections without accepting them."""
    if namespace.is_own:
        return Check("somaxconn", Verdict.OK, f"will be {connections} or more in its own namespace")
    if somaxconn >= connections:
        return Check("somaxconn", Verdict.OK, str(somaxconn))
    return Check(
        "somaxconn",
        Verdict.WARN,
        f"{somaxconn} on this host for {connections} connections",
        "an accepting listener is used instead, on the same CPUs as the measurement",
    )


def check_load(seconds: float) -> Check:
    """Whether the machine is idle enough, watched for so many seconds."""
    import psutil  # noqa: PLC0415  # 20 ms, and only this function needs it

    busy = psutil.cpu_percent(interval=seconds)
    message = f"{busy:.0f} % in use, load {os.getloadavg()[0]:.2f}"
    if busy > BUSY_PERCENT:
        return Check("CPU load", Verdict.FAIL, message, "stop what else runs here, then measure")
    return Check("CPU load", Verdict.OK, message)


def check_cpus() -> Check:
    """Whether the measured CPU can be kept clear of everything else connbench does."""
    count = len(os.sched_getaffinity(0))
    if count > 1:
        return Check("CPUs", Verdict.OK, f"{count} usable")
    return Check(
        "CPUs",
        Verdict.WARN,
        "one usable CPU",
        "the progress display and the listener share it with the measurement: use -q",
    )


def check_governor() -> Check:
    """Whether the CPU that is measured on by default keeps one frequency."""
    name = governor(max(os.sched_getaffinity(0)))
    if name in {None, "performance"}:
        return Check("governor", Verdict.OK, name or "none to be seen (a virtual machine?)")
    return Check("governor", Verdict.WARN, str(name), "cpupower frequency-set -g performance, for the run")


def check_listeners() -> Check:
    """Whether a program that connects can be given the port that a program of this host listens on.

    It can while the listener restarts, if the port lies in net.ipv4.ip_local_port_range and is not reserved. The
    listener then fails with EADDRINUSE.
    """
    ports, reserved = PortRange(*sysctl.read_port_range()), parse_ports(sysctl.read(sysctl.RESERVED_PORTS))
    exposed = {port: name for port, name in sorted(_listening().items()) if port in ports and port not in reserved}
    if not exposed:
        return Check("listeners", Verdict.OK, f"no unreserved port of {ports} has a TCP listener")
    named = [f"{name or 'a program'} on {port}" for port, name in exposed.items()]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return Check(
        "listeners",
        Verdict.WARN,
        f"{', '.join(named[:MOST_NAMED])}{more}: connect() can take such a port of {ports} while its listener restarts",
        f"reserve those that are fixed: sysctl -w {sysctl.RESERVED_PORTS}={format_ports(reserved | exposed.keys())}",
    )


def _listening() -> dict[int, str]:
    """The TCP ports of this network namespace that have a listener, each with its program's name if we may see it."""
    import psutil  # noqa: PLC0415  # 20 ms, and only these functions need it

    found: dict[int, str] = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            port = connection.laddr.port
            found.setdefault(port, "")
            with suppress(psutil.Error):  # it has ended meanwhile
                found[port] = psutil.Process(connection.pid).name() if connection.pid else found[port]
    return found


def check_all(namespace: Namespace, reason: str, port_range: PortRange, somaxconn: int) -> list[Check]:
    """Every check for a run over `port_range`; the first two arguments as for `check_namespace`."""
    connections = len(port_range)
    return [
        check_namespace(namespace, reason),
        check_option(NO_PORT),
        check_option(LOCAL_PORT_RANGE),
        check_descriptors(connections),
        check_somaxconn(namespace, connections, somaxconn),
        check_cpus(),
        check_load(seconds=1.0),
        check_governor(),
        check_listeners(),
    ]


def at_start() -> list[Finding]:
    """What would spoil any measurement on this machine now, looked at just before one."""
    found = map(as_finding, (check_cpus(), check_load(seconds=0.1)))
    return [finding for finding in found if finding]


def as_finding(check: Check) -> Finding | None:
    """A check that did not pass, as a finding of a run; None for one that did."""
    if check.verdict is Verdict.OK:
        return None
    code = check.name.lower().replace(" ", "-")
    return Finding(code, Severity.WARNING, f"{check.name}: {check.message}", check.advice)
