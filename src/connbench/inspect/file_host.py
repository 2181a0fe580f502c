"""The host that a dump comes from: what the dump does not tell of it, options say or the report assumes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from connbench.findings import Finding, Severity
from connbench.linux.sysctl import PORT_RANGE
from connbench.model import MAX_PORT, PortRange
from connbench.model.time_wait import USUAL, TimeWait
from connbench.units import count

if TYPE_CHECKING:
    from connbench.inspect.snapshot import Settings, Snapshot
    from connbench.inspect.sockets import Sockets

USUAL_PORTS = PortRange(32768, 60999)
"""The default of net.ipv4.ip_local_port_range."""

FIRST_UNPRIVILEGED = 1024
OUTSIDE = 0.1
"""The share of connections with ports outside an assumed range above which the range seems to be another."""

OTHER_RANGE = "other-range"


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
    def said(self) -> dict[str, object]:
        """The values of its options, by their names."""
        return {"--port-range": self.ports, "--reserved-ports": self.reserved, "--tcp-tw-reuse": self.tw_reuse}

    @property
    def settings(self) -> Settings:
        """Its settings; the defaults of current kernels where no option says them."""
        from connbench.inspect.snapshot import Settings  # noqa: PLC0415  # loads numpy: see `connbench.inspect.live`

        time_wait = USUAL if self.tw_reuse is None else TimeWait(self.tw_reuse)
        return Settings(self.ports or USUAL_PORTS, self.reserved or frozenset(), time_wait)

    def assumed(self) -> list[str]:
        """What no option says, each with the option that does."""
        settings = self.settings
        words = {
            "--port-range": f"ports {settings.ports}",
            "--reserved-ports": "none of them reserved",
            "--tcp-tw-reuse": f"tcp_tw_reuse {settings.time_wait.reuse}",
        }
        return [f"{words[option]} ({option})" for option, value in self.said.items() if value is None]

    def read(self, file: Path) -> Snapshot:
        """The sockets of its dump; `-` is stdin.

        Raises:
            InputError: The file cannot be read, or is no dump.
        """
        # What reads files takes long to load, and an inspection of this host needs none of it.
        from connbench.inspect.dump_file import DUMP, read_dump  # noqa: PLC0415  # as above
        from connbench.inspect.snapshot import Snapshot  # noqa: PLC0415  # as above
        from connbench.results.input_file import read_document  # noqa: PLC0415  # as above

        devices: dict[int, str] = {}

        def parse(data: bytes, name: str) -> tuple[Sockets, str]:
            return read_dump(data, name, devices), name

        begun = time.monotonic()
        sockets, name = read_document(file, parse, DUMP, takes_stdin=True)
        seconds = time.monotonic() - begun
        return Snapshot(sockets, self.settings, origin=name, seconds=seconds, taken_at=begun, devices=devices)

    def find_other_range(self, snapshot: Snapshot) -> list[Finding]:
        """Whether the outgoing connections of its dump have local ports that the range lacks which is assumed."""
        from connbench.inspect.port_usage import usage  # noqa: PLC0415  # as above

        if self.ports:
            return []
        assumed = snapshot.settings.ports
        every = replace(snapshot.settings, ports=PortRange(FIRST_UNPRIVILEGED, MAX_PORT))
        ports = snapshot.sockets.local_port[usage(replace(snapshot, settings=every)).outgoing]
        outside = ports[(ports < assumed.low) | (ports > assumed.high)]
        if len(outside) <= OUTSIDE * len(ports):
            return []
        return [
            Finding(
                OTHER_RANGE,
                Severity.WARNING,
                f"{count(len(outside))} of {count(len(ports))} outgoing connections have local ports outside the"
                f" assumed {assumed}, from {outside.min()} to {outside.max()}",
                f"give the range of that host: --port-range LOW-HIGH, as its {PORT_RANGE} says",
            )
        ]
