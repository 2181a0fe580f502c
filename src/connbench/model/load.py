"""The load of a strategy, and the schema of its fields.

`LOAD_FIELDS` describes each field of the load, an attribute of `Load` or `Churn`. The options of `run`, `sweep` and
`predict`, the checks of a request, the labels of a report, the columns of a CSV file and the limits of every file are
made from it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Any, Self
from urllib.parse import quote, unquote

from connbench.errors import UsageError
from connbench.model.addresses import MAX_JSON_INTEGER, MOST_SOURCES, RESERVED_PORTS, parse_ports
from connbench.model.choices import Close, Protocol
from connbench.units import format_percent, format_percents, per_second

MOST_ROWS = 10_000_000
"""Attempts of a round, its churn included, that can be measured or read."""

MAX_CONCURRENCY = 1024
"""Clients that can connect at the same time."""

MAX_IN_FLIGHT = 1_000_000
"""Handshakes that a client can have outstanding."""

MS_A_DAY = 86_400_000

DEFAULT_LEVELS = tuple(step / 20 for step in range(1, 21))
"""The levels of a profile without `--at`: each twentieth of the ports, to the last."""

DEFAULT_SAMPLES = 100
"""Attempts at a level, without `--samples`."""

SYSCTL = re.compile(r"(net(?:\.[\w-]+)+)=(|[!-~]+(?: [!-~]+)*)", re.ASCII)
"""A sysctl of a network namespace with its value, as the kernel shows it: a blank between its parts."""

LONGEST_SYSCTL = 4096
"""Characters of a sysctl with its value: the kernel takes up to a page of them (`proc_sys_call_handler`)."""


@dataclass(frozen=True, slots=True)
class Churn:
    """The replacing of open connections: close one, chosen at random, then open a new one.

    Attributes:
        replacements: How many connections are replaced.
        close: How they are closed.
        rate: Replacements per second of all clients together; None for as fast as possible.
    """

    replacements: int
    close: Close = Close.RST
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """The measurement at levels: take ports until a share of them is in use, time some attempts, go on to the next.

    Attributes:
        levels: The shares of the ports, 0 to 1, in ascending order.
        samples: How many attempts are timed at each level; each connection is closed at once.
    """

    levels: tuple[float, ...]
    samples: int = DEFAULT_SAMPLES


@dataclass(frozen=True, slots=True)
class Load:
    """How many connections a strategy opens, how many clients open them, and what follows.

    Attributes:
        connections: Connections to open; None for the number in the plan.
        fill: Connections to open as a share of the available ports, 0 to 1; None where `connections` or the plan says
            the number.
        sources: How many of the plan's source addresses are used; None for all.
        protocol: The kind of the sockets.
        concurrency: How many clients connect at the same time.
        give_up_ms: An attempt that takes longer is given up; in milliseconds, None for no limit.
        churn: What follows once the connections are open; None for nothing.
        profile: The levels of a profile, which takes the place of filling and churn; None to fill.
        in_flight: The most handshakes that a client has outstanding, with sockets that do not block; None for one
            blocking connect() after the other.
        sysctls: The settings of the round's network namespace that differ from those of a new one, each as in
            `net.ipv4.tcp_tw_reuse=1`, in ascending order of their names.
    """

    connections: int | None = None
    fill: float | None = None
    sources: int | None = None
    protocol: Protocol = Protocol.TCP
    concurrency: int = 1
    give_up_ms: float | None = None
    churn: Churn | None = None
    profile: Profile | None = None
    in_flight: int | None = None
    sysctls: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        """The values of `sysctls` by name."""
        return dict(text.split("=", 1) for text in self.sysctls)

    @property
    def reserved(self) -> frozenset[int] | None:
        """The ports of net.ipv4.ip_local_reserved_ports; None where `sysctls` does not name it.

        Raises:
            UsageError: Its value is not of the form that the kernel takes.
        """
        text = self.settings.get(RESERVED_PORTS)
        return None if text is None else _parsed_ports(text)

    @property
    def label(self) -> str:
        """The fields that differ from the default, without the churn, as in `fill 80%, 2 clients`."""
        return ", ".join(
            field.label(field.of(self)) for field in LABEL_ORDER if not field.is_of_churn and field.is_told(self)
        )

    @property
    def churn_label(self) -> str:
        """The churn, as in `churn 20000 by fin at 100/s`; empty without one."""
        return " ".join(
            field.label(field.of(self)) for field in LABEL_ORDER if field.is_of_churn and field.is_told(self)
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The load that has these values, by the names of `LOAD_FIELDS`; a field without a value has its default."""
        given = {field: values[field.name] for field in LOAD_FIELDS if values.get(field.name) is not None}
        own, churn, profile = (
            {field.path[-1]: value for field, value in given.items() if field.part == part}
            for part in ("", "churn", "profile")
        )
        return cls(
            **own,
            churn=Churn(**churn) if "replacements" in churn else None,
            profile=Profile(**profile) if "levels" in profile else None,
        )

    def split(self) -> tuple[Load, Load]:
        """Split into the fields that belong to the setting in a sweep, and the others; missing fields have defaults."""
        own = {field.name: field.of(self) for field in LOAD_FIELDS if field.sweep is Sweep.SETTING}
        return Load(**own), replace(self, **{name: getattr(NO_LOAD, name) for name in own})


NO_LOAD = Load()
"""The plan's number of TCP connections, one after the other."""


class Unit(Enum):
    """What the value of a field is."""

    COUNT = "a whole number"
    SHARE = "a share, 0 to 1"
    SHARES = "shares, 0 to 1, in ascending order"
    MS = "milliseconds"
    PER_SECOND = "a number per second"
    WORD = "one of a few words"
    SYSCTLS = "sysctls with their values, in ascending order of the names"

    def format(self, value: Any) -> str:  # noqa: ANN401  # a number or a word
        """A value as an option takes it: `80%`, `1.5ms`, `100/s`, `fin`."""
        match self:
            case Unit.SHARE:
                return format_percent(value)
            case Unit.SHARES:
                return format_percents(value)
            case Unit.MS:
                return f"{value:,.12g}ms"
            case Unit.PER_SECOND:
                return per_second(value)
            case Unit.SYSCTLS:
                return " --sysctl ".join(map(shlex.quote, value))
        return str(value)


LISTED = {Unit.SHARES, Unit.SYSCTLS}
"""Units of values that are several; a comma in them belongs to the value."""


class Sweep(Enum):
    """What part a field has in a sweep that takes lists of it."""

    LOAD = "a load: every setting is measured at each"
    SETTING = "part of a setting, beside the strategy"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadField:
    """A field of the load.

    Attributes:
        name: Its name in a request and in a CSV file.
        path: The attributes of `Load` that lead to it; `("churn", ...)` for a field of `Churn`, and
            `("profile", ...)` for one of `Profile`.
        unit: What its value is.
        words: The words it can be, where `unit` is WORD.
        low, high: The least and the largest value, inclusive.
        bounds: Both as a hint says them; empty for `1 to 1,024`.
        options: The names of its option.
        former: Names that the option had in earlier releases.
        metavar: What stands for the value in the help.
        section: Section of the help, a name of `connbench.commands.sections.Section`.
        help: What the option does.
        sweep_help: What the help of `sweep` adds.
        default: The default in the help.
        sweep_default: The same of `sweep`, where it is another.
        examples: Values that a shell offers.
        list_examples: What it offers before them where a list is taken.
        sweep: Its part in a sweep; None if `sweep` takes no list of it.
        is_predicted: Whether the model of the port search has it, so that `predict` takes the option.
        is_optional: Whether files of earlier versions lack it, and mean its default.
        usual: Values that a label leaves out.
        is_leading: Whether a label begins with it.
        label: A value as a report's header says it.
        cell: The same in a table's column that is headed by the field's name; the label if None.
    """

    name: str
    path: tuple[str, ...]
    unit: Unit
    words: type[StrEnum] | None = None
    low: float = 0
    high: float = 0
    bounds: str = ""
    options: tuple[str, ...]
    former: tuple[str, ...] = ()
    metavar: str
    section: str
    help: str
    sweep_help: str = ""
    default: str = ""
    sweep_default: str = ""
    examples: tuple[str, ...] = ()
    list_examples: tuple[str, ...] = ()
    sweep: Sweep | None = None
    is_predicted: bool = True
    is_optional: bool = False
    usual: tuple[object, ...] = (None,)
    is_leading: bool = False
    label: Callable[[Any], str]
    cell: Callable[[Any], str] | None = None

    @property
    def part(self) -> str:
        """The part of the load that it is a field of: `churn` or `profile`; empty for the load itself."""
        return self.path[0] if len(self.path) > 1 else ""

    @property
    def is_of_churn(self) -> bool:
        """Whether it says something about the churn."""
        return self.part == "churn"

    @property
    def hint(self) -> str:
        """The values that are possible, as a hint says them."""
        return self.bounds or f"{self.low:,} to {self.high:,}"

    def of(self, load: Load) -> Any:  # noqa: ANN401  # a number, a word or None
        """Its value in a load; None also where the load has no churn that it would be about."""
        return reduce(lambda value, name: None if value is None else getattr(value, name), self.path, load)

    def is_told(self, load: Load) -> bool:
        """Whether a label says it."""
        return self.of(load) not in self.usual

    def is_within(self, value: Any) -> bool:  # noqa: ANN401  # a number, or several, or sysctls
        """Whether a number lies within the limits, or each of several, and these in ascending order."""
        if self.unit is Unit.SYSCTLS:
            names = [text.partition("=")[0] for text in value]
            fit = all(SYSCTL.fullmatch(text) and len(text) <= LONGEST_SYSCTL for text in value)
            return fit and all(one < next_ for one, next_ in pairwise(names))
        if self.unit is Unit.SHARES:
            is_ascending = bool(value) and all(one < next_ for one, next_ in pairwise(value))
            return is_ascending and all(self.low <= one <= self.high for one in value)
        return bool(self.low <= value <= self.high)

    def check(self, value: Any) -> None:  # noqa: ANN401  # a number, a word or None
        """Check a value of a request against the limits.

        Raises:
            UsageError: It is outside of them.
        """
        if value is not None and self.unit is not Unit.WORD and not self.is_within(value):
            raise UsageError(f"{self.options[0]} {self.unit.format(value)} is not possible", f"give {self.hint}")

    def argument(self, load: Load) -> str:
        """The option that asks for its value, as in `--give-up-after 5ms`; empty where a label says nothing of it."""
        value = self.of(load)
        if not self.is_told(load):
            return ""
        text = self.unit.format(value)
        return f"{self.options[-1]} {text if self.unit in LISTED else text.replace(',', '')}"

    def column(self, load: Load) -> str:
        """Its value as a field of a CSV file has it, empty for None; `parse` is the way back."""
        value = self.of(load)
        if value is None:
            return ""
        if self.unit is Unit.SYSCTLS:
            return ";".join(quote(text, safe=" =.-:/") for text in value)
        return " ".join(map(str, value)) if self.unit is Unit.SHARES else str(value)

    def parse(self, text: str) -> Any:  # noqa: ANN401  # a number, a word or None
        """Read its value from a field of a CSV file, which is empty for None.

        Raises:
            ValueError: It is none.
        """
        if not text:
            return None
        if self.words is not None:
            if text not in set(self.words):
                raise ValueError(f"{text[:40]!r} is not one of {', '.join(self.words)}")
            return self.words(text)
        if self.unit is Unit.SHARES:
            return tuple(map(parse_decimal, text.split(" ")))
        if self.unit is Unit.SYSCTLS:
            return tuple(map(unquote, text.split(";")))
        return parse_whole(text) if self.unit is Unit.COUNT else parse_decimal(text)


def parse_whole(text: str) -> int:
    """Read a whole number from a field of a CSV file.

    Raises:
        ValueError: It is none. Python's own message about thousands of digits would not help a user.
    """
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def parse_decimal(text: str) -> float:
    """Read a number from a field of a CSV file.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"[-+.e\d]{1,40}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a number")
    return float(text)


@lru_cache(maxsize=64)  # a sweep has few, and a plan asks for the ports of each many times
def _parsed_ports(text: str) -> frozenset[int]:
    return parse_ports(text)


def short_sysctl(text: str) -> str:
    """A sysctl as a label has it: `tcp_tw_reuse=1`, `ipv6.conf.all.forwarding=1`."""
    return re.sub(r"^net\.(?:(?:ipv4|core)\.)?", "", text)


LOAD_FIELDS = (
    LoadField(
        name="connections",
        path=("connections",),
        unit=Unit.COUNT,
        low=1,
        high=MOST_ROWS,
        options=("-n", "--connections"),
        metavar="N",
        section="OPEN",
        help="Open N connections with each strategy.",
        default="one for each port and source address",
        sweep=Sweep.LOAD,
        label=lambda number: f"n={number}",
    ),
    LoadField(
        name="fill",
        path=("fill",),
        unit=Unit.SHARE,
        low=1e-6,
        high=1,
        bounds="more than 0%, up to 100%",
        options=("--fill",),
        metavar="SHARE",
        section="OPEN",
        help="Open connections on this share of the ports, as in 80%, instead of a number of connections.",
        sweep_default="50%-95%:5% with --churn",
        examples=("50%", "80%", "90%", "95%"),
        list_examples=("50%-95%:5%",),
        sweep=Sweep.LOAD,
        label=lambda share: f"fill {format_percent(share)}",
        cell=format_percent,
    ),
    LoadField(
        name="sources",
        path=("sources",),
        unit=Unit.COUNT,
        low=1,
        high=MOST_SOURCES,
        options=("--sources",),
        metavar="N",
        section="PORTS",
        help="Connect from N addresses: 127.9.9.1 (or 2001:db8::1) and the addresses after it.",
        sweep=Sweep.SETTING,
        usual=(None, 1),
        is_leading=True,
        label=lambda number: f"{number} sources",
    ),
    LoadField(
        name="protocol",
        path=("protocol",),
        unit=Unit.WORD,
        words=Protocol,
        options=("--protocol",),
        metavar="PROTOCOL",
        section="OPEN",
        help="Open tcp or udp sockets. udp needs no listener, and bind() searches for its port.",
        default="tcp",
        usual=(Protocol.TCP,),
        is_leading=True,
        label=lambda protocol: str(protocol).upper(),
    ),
    LoadField(
        name="concurrency",
        path=("concurrency",),
        unit=Unit.COUNT,
        low=1,
        high=MAX_CONCURRENCY,
        options=("--concurrency",),
        former=("--lanes",),
        metavar="K",
        section="LOAD",
        help="Connect with K clients at the same time, each in processes of its own.",
        default="1",
        sweep=Sweep.LOAD,
        usual=(1,),
        label=lambda number: f"{number} client{'' if number == 1 else 's'}",
    ),
    LoadField(
        name="give_up_ms",
        path=("give_up_ms",),
        unit=Unit.MS,
        low=1e-6,
        high=MS_A_DAY,
        bounds="1ns to 24h",
        options=("--give-up-after",),
        metavar="TIME",
        section="LOAD",
        help="Give up an attempt that takes longer, as in 1ms, and count it as an error. A number alone is in ms.",
        examples=("100us", "1ms", "10ms"),
        sweep=Sweep.SETTING,
        is_predicted=False,
        label=lambda ms: f"giving up after {ms:g} ms",
    ),
    LoadField(
        name="churn",
        path=("churn", "replacements"),
        unit=Unit.COUNT,
        low=1,
        high=MOST_ROWS,
        options=("--churn",),
        metavar="N",
        section="LOAD",
        help="Replace N connections once all are open: close one at random, open a new one and time it.",
        sweep_help="The sweep judges the churn, not the filling.",
        sweep=Sweep.LOAD,
        label=lambda number: f"churn {number}",
    ),
    LoadField(
        name="close",
        path=("churn", "close"),
        unit=Unit.WORD,
        words=Close,
        options=("--close",),
        metavar="HOW",
        section="LOAD",
        help="Close connections in the churn by rst, or by fin, which leaves ports in TIME_WAIT.",
        default="rst",
        sweep=Sweep.LOAD,
        usual=(None, Close.RST),
        label=lambda close: f"by {close}",
    ),
    LoadField(
        name="churn_rate",
        path=("churn", "rate"),
        unit=Unit.PER_SECOND,
        low=1e-6,
        high=MAX_JSON_INTEGER,
        bounds="a rate above 0, as in 100/s",
        options=("--churn-rate",),
        metavar="RATE",
        section="LOAD",
        help="Replace connections at this rate, as in 100/s.",
        default="as fast as possible",
        examples=("100/s", "1k/s", "10k/s"),
        sweep=Sweep.LOAD,
        label=lambda rate: "at full speed" if rate is None else f"at {per_second(rate)}",
    ),
    LoadField(
        name="levels",
        path=("profile", "levels"),
        unit=Unit.SHARES,
        low=0,
        high=1,
        bounds="shares from 0% to 100%, in ascending order",
        options=("--at",),
        metavar="SHARE,...",
        section="LEVELS",
        help="Measure with these shares of the ports in use; a range has a step.",
        default=format_percents(DEFAULT_LEVELS),
        examples=("5%-100%:5%", "50%,80%,95%", "90%-100%:1%"),
        is_predicted=False,
        is_optional=True,
        label=lambda levels: "profile" + ("" if levels == DEFAULT_LEVELS else f" at {format_percents(levels)}"),
    ),
    LoadField(
        name="samples",
        path=("profile", "samples"),
        unit=Unit.COUNT,
        low=1,
        high=MOST_ROWS,
        options=("--samples",),
        metavar="N",
        section="LEVELS",
        help="Make N attempts at each level.",
        default=f"{DEFAULT_SAMPLES}",
        is_predicted=False,
        is_optional=True,
        usual=(None, DEFAULT_SAMPLES),
        label=lambda number: f"{number} samples each",
    ),
    LoadField(
        name="in_flight",
        path=("in_flight",),
        unit=Unit.COUNT,
        low=1,
        high=MAX_IN_FLIGHT,
        options=("--in-flight",),
        metavar="N",
        section="LOAD",
        help="Keep up to N handshakes of each client in flight: connect() does not wait for them.",
        default="connect() blocks",
        examples=("100", "1000"),
        sweep=Sweep.LOAD,
        is_predicted=False,
        is_optional=True,
        label=lambda number: f"{number:,} in flight",
        cell=lambda number: f"{number:,}",
    ),
    LoadField(
        name="sysctls",
        path=("sysctls",),
        unit=Unit.SYSCTLS,
        bounds="NAME=VALUE with a name under net., as in net.ipv4.tcp_tw_reuse=1, and each name once",
        options=("--sysctl",),
        metavar="NAME=VALUE",
        section="PLACE",
        help="Set this sysctl in the run's own network namespaces, as in net.ipv4.tcp_tw_reuse=1. Repeatable.",
        examples=("net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_reserved_ports=", "net.ipv4.tcp_timestamps=0"),
        list_examples=("net.ipv4.tcp_tw_reuse=0,1,2",),
        sweep=Sweep.SETTING,
        is_optional=True,
        usual=(None, ()),
        label=lambda texts: ", ".join(map(short_sysctl, texts)),
    ),
)
"""Every field of the load, in the order of a CSV file's columns."""

LABEL_ORDER = sorted(LOAD_FIELDS, key=lambda field: not field.is_leading)
"""The fields in the order of a label."""
