"""What was read of one network namespace at one moment: its sockets, and the settings that decide a port search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connbench.inspect.sockets import Sockets
from connbench.model import PortRange
from connbench.model.time_wait import USUAL, TimeWait


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a namespace that decide a port search.

    Attributes:
        ports: net.ipv4.ip_local_port_range.
        reserved: net.ipv4.ip_local_reserved_ports.
        time_wait: When connect() may take a port in TIME_WAIT.
        kernel: The release of the kernel; empty if it is not known.
        step_width: net.ipv4.ip_local_port_step_width; 0 where the kernel has none.
    """

    ports: PortRange
    reserved: frozenset[int] = frozenset()
    time_wait: TimeWait = USUAL
    kernel: str = ""
    step_width: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """A program that has sockets.

    Attributes:
        pid: Its process.
        name: The name of that process, as /proc/PID/comm has it.
        cgroup: The path of its cgroup; empty if it is not known.
    """

    pid: int
    name: str
    cgroup: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sockets of a network namespace.

    Attributes:
        sockets: All of them, of TCP and UDP.
        settings: The settings of the namespace.
        namespace: Its name; empty for the namespace of this process, and for a file.
        origin: The name of the file that they were read from; empty if the kernel was asked.
        seconds: How long reading took.
        taken_at: When it was read, by time.monotonic().
        fallback: Why /proc/net was read instead of a dump over netlink; empty if it was not.
        processes: The programs that have the sockets, by inode; None if nobody asked for them.
        devices: The names of devices by their indices, of a file: its indices are not those of this host.
    """

    sockets: Sockets
    settings: Settings
    namespace: str = ""
    origin: str = ""
    seconds: float = 0.0
    taken_at: float = 0.0
    fallback: str = ""
    processes: Mapping[int, tuple[Process, ...]] | None = None
    devices: Mapping[int, str] = field(default_factory=dict)
