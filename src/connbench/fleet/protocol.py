"""What controller and agent say to each other: a JSON object a line, on stdin and stdout of the agent.

The agent takes the standard library for it, and has no more where it was pushed. A host is not trusted more than a
result file: `connbench.fleet.events` refuses lines that are too long and values that no agent
sends, and makes text printable. Nothing that a host says becomes a part of a command but the numbers of `Hello.pid` and
`Done.descriptor`.
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from typing import Annotated

from connbench.errors import ERRORS_BY_EXIT_CODE, INTERRUPTIONS, ConnbenchError, Interrupted, RunFault
from connbench.interrupts import ENDING_SIGNALS
from connbench.model.rebuild import rebuilt
from connbench.safe_text import printable

try:
    from msgspec import Meta
except ImportError:  # an agent that was pushed: it decodes no event

    class Meta:  # type: ignore[no-redef]  # stands for msgspec's
        """Limits of a value, which nobody checks."""

        def __init__(self, **limits: int) -> None:
            pass


PROTOCOL = 1
"""The version. Raise it when a message changes its meaning, or a new one has to be understood."""

LONGEST_LINE = 64 << 10
"""Bytes of a line, in each direction; options take the most."""

LONGEST_TEXT = 1000
"""Characters of a text that a host says; the rest is cut."""

MOST_CHECKS = 30
"""Checks that a host tells of."""

SILENCE_S = 30.0
"""An agent that hears nothing from its controller for this many seconds ends: the link between them is cut."""

PING_EVERY_S = 3.0
"""Seconds between two pings of a controller to an agent that runs; each shows either end that the other is there."""

Natural = Annotated[int, Meta(ge=0, le=2**53)]
Instant = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""An instant of CLOCK_REALTIME, in ns."""

SHORT = Meta(max_length=LONGEST_TEXT)
Text = Annotated[str, SHORT]
Version = Annotated[str, Meta(max_length=64)]
"""A release or a name, as uname(2) limits them too: it is a cell of a table."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for `Pong` at once, which tells the clock of the host and that it is there."""

    number: Natural


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """Plan a run, and answer `Ready`.

    Attributes:
        options: Those of `connbench run`, as the user wrote them.
        together: Whether each turn waits for a `Go` of its own; otherwise the first one begins the whole run.
    """

    options: tuple[str, ...]
    together: bool


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """Check whether the host can measure, as `connbench doctor` does, and answer `Checked`."""


@dataclass(frozen=True, slots=True)
class Go:
    """Begin the turn, or the run, at this instant of the host's clock; 0 for at once."""

    at_ns: Instant

    def __post_init__(self) -> None:
        if self.at_ns < 0:
            raise ValueError(f"{self.at_ns} is before 1970")


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run as this signal does, and keep what was measured."""

    signal: int = int(signal.SIGINT)


@dataclass(frozen=True, slots=True)
class End:
    """The result was copied, or nobody wants it: end."""


@dataclass(frozen=True, slots=True)
class Hello:
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
    connbench: Version
    python: Version
    kernel: Version
    hostname: Version
    pid: Annotated[int, Meta(ge=1, le=2**31)]


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`, with the host's CLOCK_REALTIME in ns."""

    number: Natural
    now_ns: Instant


@dataclass(frozen=True, slots=True)
class WarningRecord:
    """A finding that a host knows of before its run."""

    text: Text
    advice: Text


@dataclass(frozen=True, slots=True)
class Ready:
    """The run is planned.

    Attributes:
        turns: Its turns: rounds times strategies.
        strategies: The label of each strategy.
        attempts: The attempts of all turns.
        warnings: The findings that are known before the run.
    """

    turns: Natural
    strategies: Annotated[tuple[Text, ...], Meta(max_length=1000)]
    attempts: Natural
    warnings: Annotated[tuple[WarningRecord, ...], Meta(max_length=100)] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Everything for this turn, counted from 1, is set up: it waits for `Go`."""

    turn: Natural


@dataclass(frozen=True, slots=True)
class ProgressEvent:
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


@dataclass(frozen=True, slots=True)
class FaultRecord:
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


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was measured, for this reason."""

    fault: FaultRecord


@dataclass(frozen=True, slots=True)
class Done:
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


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A check of `connbench doctor`: the code of its finding, its verdict in one word, what was found, what to do."""

    code: Text
    verdict: Text
    text: Text
    advice: Text


@dataclass(frozen=True, slots=True)
class Checked:
    """What `connbench doctor` finds on the host.

    Attributes:
        exit_code: How a full run would end there.
        checks: All checks.
        verdict: The same in sentences.
    """

    exit_code: Natural
    checks: Annotated[tuple[CheckRecord, ...], Meta(max_length=MOST_CHECKS)]
    verdict: Annotated[tuple[Text, ...], Meta(max_length=10)]


OneEvent = Hello | Pong | Checked | Ready | Waiting | ProgressEvent | Failed | Done
OneOrder = Ping | CheckOrder | PlanOrder | Go | Stop | End

ORDERS: dict[str, type[OneOrder]] = {
    "ping": Ping,
    "check": CheckOrder,
    "plan": PlanOrder,
    "go": Go,
    "stop": Stop,
    "end": End,
}
"""The orders, by the word that `do` has."""

EVENTS: dict[str, type[OneEvent]] = {
    "hello": Hello,
    "pong": Pong,
    "checked": Checked,
    "ready": Ready,
    "waiting": Waiting,
    "progress": ProgressEvent,
    "failed": Failed,
    "done": Done,
}
"""The events, by the word that `event` has."""

_WORDS = {kind: {"do": word} for word, kind in ORDERS.items()} | {
    kind: {"event": word} for word, kind in EVENTS.items()
}


def encode(message: OneOrder | OneEvent) -> bytes:
    """The line of a message, with its end."""
    return json.dumps(_WORDS[type(message)] | asdict(message)).encode() + b"\n"


def decode_order(line: bytes) -> OneOrder:
    """The order of a line.

    Raises:
        RunFault: It is none.
    """
    check_length(line, "the controller")
    try:
        fields = json.loads(line)
        order: OneOrder = rebuilt(ORDERS[fields.pop("do")], fields)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise no_message(line, "the controller", str(error)) from error
    return order


def check_length(line: bytes, who: str) -> None:
    """Refuse a line that is longer than any message.

    Raises:
        RunFault: It is.
    """
    if len(line) > LONGEST_LINE:
        raise RunFault(f"{who} sent a line of {len(line):,} bytes", f"the longest that is read has {LONGEST_LINE:,}")


def no_message(line: bytes, who: str, reason: str) -> RunFault:
    """The fault of a line that is no message."""
    shown = printable(line[:80].decode(errors="replace"))
    return RunFault(
        f"{who} sent what is no message: {shown!r} ({printable(reason)[:100]})",
        "see that the same connbench is installed on either host",
    )


def signal_of(order: Stop) -> int:
    """The number of the signal as which the order ends the run; SIGINT for one that ends none."""
    return order.signal if order.signal in ENDING_SIGNALS else int(signal.SIGINT)
