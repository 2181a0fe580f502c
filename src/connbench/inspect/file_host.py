"""The host that a dump comes from: what the dump does not tell of it, options say or the report assumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connbench.findings import Finding, Severity
from connbench.inspect.dump_file import DUMP, read_dump
from connbench.inspect.port_usage import mix, usage
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets
from connbench.linux.sysctl import PORT_RANGE
from connbench.model import MAX_PORT, PortRange
from connbench.model.time_wait import USUAL, TimeWait
from connbench.results.input_file import read_document
from connbench.units import count

USUAL_PORTS = PortRange(32768, 60999)
"""The default of net.ipv4.ip_local_port_range."""

FIRST_UNPRIVILEGED = 1024
DOUBTFUL = 0.1
"""The share of connections that contradict an assumption, above which a finding says so."""

OTHER_RANGE, SEVERAL_DUMPS = "other-range", "several-dumps"


@dataclass(frozen=True, slots=True)
class FileHost:
    """What options say of the host of a dump; None is what none says.

    Attributes:
        ports: net.ipv4.ip_local_port_range.
        reserved: net.ipv4.ip_local_reserved_ports.
        tw_reuse: net.ipv4.tcp_tw_reuse.
    """

    ports: PortRange | None
    reserved: frozenset[int] | None
    tw_reuse: int | None

    @property
    def settings(self) -> Settings:
        """Its settings; the defaults of current kernels where no option says them."""
        time_wait = USUAL if self.tw_reuse is None else TimeWait(self.tw_reuse)
        return Settings(self.ports or USUAL_PORTS, self.reserved or frozenset(), time_wait)

    def assumed(self) -> list[str]:
        """What no option says, each with the option that does."""
        settings = self.settings
        words = (
            (self.ports, f"ports {settings.ports} (--port-range)"),
            (self.reserved, "none of them reserved (--reserved-ports)"),
            (self.tw_reuse, f"tcp_tw_reuse {settings.time_wait.reuse} (--tcp-tw-reuse)"),
        )
        return [assumed for said, assumed in words if said is None]

    def read(self, file: Path) -> Snapshot:
        """The sockets of its dump; `-` is stdin.

        Raises:
            InputError: The file cannot be read, or is no dump.
        """
        devices: dict[int, str] = {}

        def parse(data: bytes, name: str) -> tuple[Sockets, str]:
            return read_dump(data, name, devices), name

        begun = time.monotonic()
        sockets, name = read_document(file, parse, DUMP, takes_stdin=True)
        seconds = time.monotonic() - begun
        return Snapshot(sockets, self.settings, origin=name, seconds=seconds, taken_at=begun, devices=devices)

    def find_doubts(self, snapshot: Snapshot) -> list[Finding]:
        """What in its dump contradicts the range that is assumed, or that it is one dump of one moment."""
        return [*(() if self.ports else _find_other_range(snapshot)), *_find_repeated(snapshot)]


def _find_other_range(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the outgoing connections have local ports that the assumed range lacks."""
    assumed = snapshot.settings.ports
    every = replace(snapshot.settings, ports=PortRange(FIRST_UNPRIVILEGED, MAX_PORT))
    ports = snapshot.sockets.local_port[usage(replace(snapshot, settings=every)).outgoing]
    outside = ports[(ports < assumed.low) | (ports > assumed.high)]
    if len(outside) > DOUBTFUL * len(ports):
        yield Finding(
            OTHER_RANGE,
            Severity.WARNING,
            f"{count(len(outside))} of {count(len(ports))} outgoing connections have local ports outside the"
            f" assumed {assumed}, from {outside.min()} to {outside.max()}",
            f"give the range of that host: --port-range LOW-HIGH, as its {PORT_RANGE} says",
        )


def _find_repeated(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether connections are listed several times. A few can be: sockets change while the kernel lists them."""
    sockets = snapshot.sockets[snapshot.sockets.remote_port > 0]
    ends = (*sockets.local.T, *sockets.remote.T, sockets.local_port, sockets.remote_port)
    repeated = len(sockets) - len(np.unique(mix(*ends, sockets.protocol, sockets.interface)))
    if repeated > DOUBTFUL * len(sockets):
        yield Finding(
            SEVERAL_DUMPS,
            Severity.WARNING,
            f"{count(repeated)} of {count(len(sockets))} connections are listed before: the file seems to hold several"
            " dumps, and all counts of connections are too high",
            "give one dump in each file",
        )
