"""What controller and agent say to each other: a JSON object a line, on stdin and stdout of the agent.

A host is not trusted more than a result file: `decode_event` refuses lines that are too long and values that no agent
sends, and makes text printable. Nothing that a host says becomes a part of a command but the numbers of `Hello.pid` and
`Done.descriptor`.
"""

from __future__ import annotations

import signal
from typing import Annotated, TypeVar

import msgspec

from connbench.errors import ERRORS_BY_EXIT_CODE, INTERRUPTIONS, ConnbenchError, Interrupted, RunFault
from connbench.interrupts import ENDING_SIGNALS
from connbench.safe_text import printable

PROTOCOL = 1
"""The version. Raise it when a message changes its meaning, or a new one has to be understood."""

LONGEST_LINE = 64 << 10
"""Bytes of a line, in each direction; options take the most."""

LONGEST_TEXT = 1000
"""Characters of a text that a host says; the rest is cut."""

SILENCE_S = 30.0
"""An agent that hears nothing from its controller for this many seconds ends: the link between them is cut."""

PING_EVERY_S = 3.0
"""Seconds between two pings of a controller to an agent that runs; each shows either end that the other is there."""

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Instant = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An instant of CLOCK_REALTIME, in ns."""

SHORT = msgspec.Meta(max_length=LONGEST_TEXT)
Text = Annotated[str, SHORT]


class Order(msgspec.Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """What a controller says; base of the messages to an agent."""


class Ping(Order, frozen=True, tag="ping"):
    """Asks for `Pong` at once, which tells the clock of the host and that it is there."""

    number: Natural


class PlanOrder(Order, frozen=True, tag="plan"):
    """Plan a run, and answer `Ready`.

    Attributes:
        options: Those of `connbench run`, as the user wrote them.
        together: Whether each turn waits for a `Go` of its own; otherwise the first one begins the whole run.
    """

    options: tuple[str, ...]
    together: bool


class Go(Order, frozen=True, tag="go"):
    """Begin the turn, or the run, at this instant of the host's clock; 0 for at once."""

    at_ns: Instant


class Stop(Order, frozen=True, tag="stop"):
    """End the run as this signal does, and keep what was measured."""

    signal: int = int(signal.SIGINT)


class End(Order, frozen=True, tag="end"):
    """The result was copied, or nobody wants it: end."""


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """What an agent says; base of the messages to the controller."""


class Hello(Event, frozen=True, tag="hello"):
    """The first line of an agent.

    Attributes:
        protocol: Its version of these messages.
        connbench: Its version of connbench.
        python: The version of its Python.
        kernel: The release of its kernel.
        hostname: What the host calls itself.
        pid: The process id of the agent.
    """

    protocol: Natural
    connbench: Text
    python: Text
    kernel: Text
    hostname: Text
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class Pong(Event, frozen=True, tag="pong"):
    """The answer to a `Ping`, with the host's CLOCK_REALTIME in ns."""

    number: Natural
    now_ns: Instant


class WarningRecord(msgspec.Struct, frozen=True):
    """A finding that a host knows of before its run."""

    text: Text
    advice: Text


class Ready(Event, frozen=True, tag="ready"):
    """The run is planned.

    Attributes:
        turns: Its turns: rounds times strategies.
        strategies: The label of each strategy.
        attempts: The attempts of all turns.
        warnings: The findings that are known before the run.
    """

    turns: Natural
    strategies: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1000)]
    attempts: Natural
    warnings: Annotated[tuple[WarningRecord, ...], msgspec.Meta(max_length=100)] = ()


class Waiting(Event, frozen=True, tag="waiting"):
    """Everything for this turn, counted from 1, is set up: it waits for `Go`."""

    turn: Natural


class ProgressEvent(Event, frozen=True, tag="progress"):
    """How far a turn is; at most two a second.

    Attributes:
        turn: Its number, from 1.
        label: What it measures: the strategy, its phase and the round.
        done: The attempts that are finished.
        attempts: The attempts of the phase.
        mean_ns: The mean connect() time of about the last thousand of them, in ns.
    """

    turn: Natural
    label: Text
    done: Natural
    attempts: Natural
    mean_ns: float


class FaultRecord(msgspec.Struct, frozen=True):
    """A fault on a host."""

    message: Text
    hint: Text
    exit_code: int

    @classmethod
    def of(cls, fault: ConnbenchError) -> FaultRecord:
        """The record of a fault, cut to the length that is read."""
        return cls(fault.message[:LONGEST_TEXT], fault.hint[:LONGEST_TEXT], int(fault.exit_code))

    def revive(self) -> ConnbenchError:
        """The fault, of the class that its exit code belongs to, in printable text."""
        if self.exit_code in INTERRUPTIONS:
            return Interrupted(self.exit_code - 128)
        kind = ERRORS_BY_EXIT_CODE.get(self.exit_code, RunFault)
        return kind(printable(self.message), printable(self.hint))


class Failed(Event, frozen=True, tag="failed"):
    """Nothing was measured, for this reason."""

    fault: FaultRecord


class Done(Event, frozen=True, tag="done"):
    """The run has ended.

    Attributes:
        descriptor: The file descriptor of the agent's process that has the result, as .json.gz; None if nothing was
            measured. The file is in memory, and ends with the process.
        size: The size of the result in bytes.
        fault: What ended the run early; None if it is complete.
    """

    descriptor: Natural | None
    size: Natural
    fault: FaultRecord | None


OneEvent = Hello | Pong | Ready | Waiting | ProgressEvent | Failed | Done
OneOrder = Ping | PlanOrder | Go | Stop | End

_orders: msgspec.json.Decoder[OneOrder] = msgspec.json.Decoder(OneOrder)
_events: msgspec.json.Decoder[OneEvent] = msgspec.json.Decoder(OneEvent)
_Message = TypeVar("_Message")


def encode(message: Order | Event) -> bytes:
    """The line of a message, with its end."""
    return msgspec.json.encode(message) + b"\n"


def decode_order(line: bytes) -> OneOrder:
    """The order of a line.

    Raises:
        RunFault: It is none.
    """
    return _decoded(line, _orders, "the controller")


def decode_event(line: bytes) -> OneEvent:
    """The event of a line that a host sent.

    Raises:
        RunFault: No agent of this protocol sends it.
    """
    return _decoded(line, _events, "its agent")


def _decoded(line: bytes, decoder: msgspec.json.Decoder[_Message], who: str) -> _Message:
    if len(line) > LONGEST_LINE:
        raise RunFault(f"{who} sent a line of {len(line):,} bytes", f"the longest that is read has {LONGEST_LINE:,}")
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = printable(line[:80].decode(errors="replace"))
        raise RunFault(
            f"{who} sent what is no message: {shown!r} ({printable(str(error))[:100]})",
            "see that the same connbench is installed on either host",
        ) from error


def signal_of(order: Stop) -> int:
    """The number of the signal as which the order ends the run; SIGINT for one that ends none."""
    return order.signal if order.signal in ENDING_SIGNALS else int(signal.SIGINT)
