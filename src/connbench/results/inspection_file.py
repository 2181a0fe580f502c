"""The JSON document of `connbench inspect`: the records that it consists of, and its reader.

`inspect` writes the records of one host, `fleet inspect` reads those of many hosts. The reader takes a document for
hostile, as that of a result: any host may have sent it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from connbench.errors import InputError
from connbench.findings import Finding
from connbench.model import MAX_JSON_INTEGER, MAX_PORT, Endpoint, Protocol
from connbench.safe_text import printable

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

LONGEST_DOCUMENT = 16 << 20
"""Bytes of the document of a host: a path takes about 1.5 kB of it."""

Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_JSON_INTEGER)]
Ports = Annotated[int, msgspec.Meta(ge=0, le=MAX_PORT + 1)]
Figure = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Word = Annotated[str, msgspec.Meta(max_length=300)]
Sentence = Annotated[str, msgspec.Meta(max_length=2000)]


@dataclass(frozen=True, slots=True)
class ForecastRecord:
    """The next connect() of a strategy on a path.

    Attributes:
        strategy: The strategy with its parameters, as reports name it.
        half: Where most searches end: the word for a half of the range; None if there is none.
        ports_probed: The ports that the search probes, the mean; None if no model knows it.
        failing: The share of the searches that find no port, 0 to 1; None likewise.
        connect_ns: How long connect() takes, in ns; None likewise.
        until_knee: How many connections more until connect() is slow; None if there is no knee.
        until_exhaustion: How many connections more find a port.
    """

    strategy: Word
    half: Word | None
    ports_probed: Figure | None
    failing: Share | None
    connect_ns: Figure | None
    until_knee: Whole | None
    until_exhaustion: Whole


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """How many connections will have left TIME_WAIT in at most so many seconds."""

    within_s: Whole
    connections: Whole


@dataclass(frozen=True, slots=True)
class PathRecord:
    """A path: the ports in use from one source to one target and target port, and what the next connect() costs.

    Attributes:
        namespace: The name of the network namespace; empty for that of the process that read it.
        protocol: `tcp` or `udp`.
        source: The local address.
        target: The address of the other end.
        target_port: Its port.
        interface: The index of the device that the sockets are bound to; 0 for none.
        used: Ports in use.
        usable: Ports that the path could have in use.
        free: Usable ports that are not in use.
        even: Even ports in use.
        odd: Odd ones.
        established: Connections in ESTABLISHED.
        time_wait: Connections in TIME_WAIT.
        outside: Connections whose port does not lie in the usable range.
        used_share: The share of the usable ports that is in use, 0 to 1.
        blocked: The number of ports of the range that bind() took for every target.
        others: The number of connections in each further state, by its name in `ss`.
        time_wait_left: The connections that leave TIME_WAIT soon; empty if timers are not known.
        closing_per_s: Connections a second that entered TIME_WAIT; None if timers are not known.
        expiring_per_s: Connections a second that leave it; likewise.
        opened_per_s: Connections opened since the dump before, a second; None without one.
        gone_per_s: Connections gone since then, likewise.
        growth_per_s: By how many ports the path grows a second, below 0 if it shrinks; None if that is not known.
        exhausted_in_s: Seconds until no port is free at this growth; None if it does not grow, or nobody knows.
        programs: The programs that have the ports, as `inspect --process` writes them; None without.
        forecasts: The next connect() for each way to get a port, the kernel's own choice first.
        device: The device of `interface` as reports name it; empty for none.
        needs_attention: Whether connect() on it is slow or fails, or nearly so.
    """

    namespace: Word
    protocol: Literal["tcp", "udp"]
    source: Word
    target: Word
    target_port: Ports
    interface: Whole
    used: Ports
    usable: Ports
    free: Ports
    even: Ports
    odd: Ports
    established: Whole
    time_wait: Whole
    outside: Whole
    used_share: Share
    blocked: Ports
    others: Mapping[Word, Whole]
    time_wait_left: Sequence[TimeLeft]
    closing_per_s: Figure | None
    expiring_per_s: Figure | None
    opened_per_s: Figure | None
    gone_per_s: Figure | None
    growth_per_s: float | None
    exhausted_in_s: Figure | None
    programs: object
    forecasts: Sequence[ForecastRecord]
    device: Word = ""
    needs_attention: bool = False

    @property
    def name(self) -> str:
        """The path as a reader names it: `web: 10.0.0.5 -> 10.1.2.3:53 (udp)`; without namespace for the usual one."""
        protocol = "" if Protocol(self.protocol) is Protocol.TCP else f" ({self.protocol})"
        path = f"{self.bound_source} -> {Endpoint(self.target, self.target_port)}{protocol}"
        return printable(f"{self.namespace}: {path}" if self.namespace else path)

    @property
    def bound_source(self) -> str:
        """The source, with the device that its sockets are bound to, as in `fe80::1%2`."""
        return f"{self.source}%{self.device}" if self.device else self.source

    def leaving(self, seconds: int) -> int | None:
        """The connections that will have left TIME_WAIT in so many seconds; None if timers are not known."""
        return next((one.connections for one in self.time_wait_left if one.within_s == seconds), None)


@dataclass(frozen=True, slots=True)
class ConditionRecord:
    """A condition of --fail-if, and the path or namespace that is the worst for it.

    Attributes:
        condition: The condition as the user wrote it.
        subject: The name of the path or namespace.
        outcome: What was measured, or why it cannot be judged, if the condition is true; else empty.
    """

    condition: Sentence
    subject: Sentence
    outcome: Sentence


@dataclass(frozen=True, slots=True)
class RemedyRecord:
    """What to do about the fullest path that needs attention.

    Attributes:
        sentences: In words.
        command: The command of connbench that tells more; empty for none.
    """

    sentences: Sequence[Sentence]
    command: Sentence


@dataclass(frozen=True, slots=True)
class InspectionRecord:
    """What a reader of the document needs of it; its other keys say more about the host.

    Attributes:
        schema: `SCHEMA`.
        verdict: What to take away, in sentences.
        sockets: The number of sockets that were read.
        paths: The number of paths, of which `rows` may be a part.
        rows: The fullest paths, the fullest first.
        remedy: What to do; None if no path needs attention.
        findings: What else a reader must know.
        conditions: The conditions of --fail-if; None in a document of an earlier connbench.
    """

    schema: int
    verdict: Sequence[Sentence]
    sockets: Whole
    paths: Whole
    rows: Sequence[PathRecord]
    remedy: RemedyRecord | None = None
    findings: Sequence[Finding] = ()
    conditions: Sequence[ConditionRecord] | None = None


class _Head(msgspec.Struct):
    schema: int


def read_inspection(data: bytes, name: str) -> InspectionRecord:
    """Read the document of an inspection.

    Args:
        data: The document.
        name: Who sent it, for messages.

    Raises:
        InputError: It is none, or one of another schema.
    """
    if len(data) > LONGEST_DOCUMENT:
        raise InputError(f"{name} sent more than {LONGEST_DOCUMENT >> 20} MiB", "show fewer paths: --top 20")
    try:
        schema = msgspec.json.decode(data, type=_Head).schema
        if schema != SCHEMA:
            raise InputError(f"{name} sent a document of schema {schema}, not {SCHEMA}", "use one connbench everywhere")
        return msgspec.json.decode(data, type=InspectionRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = printable(str(error))[:200]
        raise InputError(
            f"{name} sent what is no document of connbench inspect: {reason}", "use one connbench everywhere"
        ) from error
