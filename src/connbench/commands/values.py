"""The types of options: quantities, words, and lists of both; each parses, checks and completes its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import StrEnum
from time import time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import click

from connbench.errors import UsageError, suggest
from connbench.linux.sysctl import COMMA_SEPARATED
from connbench.model import MAX_JSON_INTEGER, format_ports, parse_ports
from connbench.model.addresses import RESERVED_PORTS
from connbench.model.load import LoadField, Unit
from connbench.units import (
    COUNT_FORM,
    INSTANT_FORM,
    PERCENT_FORM,
    RATE_FORM,
    TIME_FORM,
    parse_count,
    parse_instant,
    parse_percent,
    parse_rate,
    parse_time,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


MOST_VALUES = 1000
"""Values of one list; more are a typing error."""

Number = int | Decimal


class _Value(click.ParamType):  # type: ignore[type-arg]  # it takes a parameter from click 8.4 on only
    """A value that is parsed from text; the help shows `name` in its place."""

    examples: tuple[str, ...] = ()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401, ARG002  # click's signature
        """Parse a text; a default that is not a text is the value itself."""
        return self.read(value, param.opts[0] if param else self.name) if isinstance(value, str) else value

    def read(self, text: str, option: str) -> Any:  # noqa: ANN401  # int, float or a tuple
        """Parse what the user typed after an option.

        Raises:
            UsageError: It is not such a value.
        """
        raise NotImplementedError

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        param: click.Parameter,  # noqa: ARG002  # as above
        incomplete: str,
    ) -> list[CompletionItem]:
        """The examples that begin with what the user typed, for a shell."""
        from click.shell_completion import CompletionItem  # only a completion needs it

        return [CompletionItem(word) for word in self.examples if word.startswith(incomplete)]


class Quantity(_Value):
    """A number with its unit.

    Args:
        name: What stands for it in the help.
        reader: A reader of `connbench.units`.
        form: The form that the reader takes.
        kind: `int` or `float`.
        allows: Whether a value lies within bounds.
        bounds: These bounds in words, for the message.
        examples: What a shell offers.
    """

    def __init__(  # noqa: PLR0913  # each kind of quantity has a function below
        self,
        name: str,
        reader: Callable[[str], int | Decimal],
        form: str,
        kind: type[int | float] = float,
        *,
        allows: Callable[[float], bool] = lambda _: True,
        bounds: str = "",
        examples: Iterable[str] = (),
    ) -> None:
        self.name, self.reader, self.form, self.kind = name, reader, form, kind
        self.allows, self.bounds = allows, bounds
        self.examples = tuple(examples)

    def read(self, text: str, option: str) -> Any:  # noqa: ANN401  # int or float
        """Parse one quantity and check its bounds."""
        try:
            value = self.reader(text)
        except ValueError as error:
            fault = f"{option} {_shown(text)} is not {self.form.partition(',')[0]}"
            raise UsageError(fault, f"write {self.form}") from error
        return self._checked(value, _shown(text), option)

    def _checked(self, exact: int | Decimal, shown: str, option: str) -> float:
        value = self.kind(exact)
        if not self.allows(value):
            raise UsageError(f"{option} {shown} is not possible", f"give {self.bounds}")
        return value


class Quantities(Quantity):
    """A list of quantities and of ranges with a step, as a tuple."""

    def read(self, text: str, option: str) -> Any:  # noqa: ANN401  # a tuple of int or float
        """Parse a list and check the bounds of each quantity."""
        values = parse_values(text, option, self.reader, self.form)
        return tuple(self._checked(value, str(value), option) for value in values)


class Shares(Quantities):
    """A list of quantities in ascending order, in whatever order the user names them."""

    def read(self, text: str, option: str) -> Any:  # noqa: ANN401  # a tuple of float
        """Parse a list, and sort it."""
        return tuple(sorted(super().read(text, option)))


class Word(click.Choice):  # type: ignore[type-arg]  # it takes a parameter from click 8.4 on only
    """One of a few words; `spellings` are other forms of some, and `kind` makes the value from the word."""

    def __init__(
        self,
        known: Iterable[str],
        spellings: Mapping[str, str] = MappingProxyType({}),
        kind: Callable[[str], object] = str,
    ) -> None:
        super().__init__(list(known))
        self.spellings = spellings
        self.kind = kind

    @classmethod
    def of(cls, words: type[StrEnum]) -> Self:
        """One of the words of an enumeration; the value is its member."""
        return cls([word.value for word in words], kind=words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401, ARG002  # click's signature
        """The value of a word.

        Raises:
            UsageError: The word is unknown.
        """
        value = self.spellings.get(value, value)
        if value not in self.choices:
            option = param.opts[0] if param else self.name
            raise UsageError(f"{option} {_shown(str(value))} is unknown", suggest(str(value), self.choices))
        return self.kind(value)


class Words(_Value):
    """A list of words, as a tuple; unknown words raise an error here, or with `refuses=False` in the planner."""

    def __init__(
        self, name: str, known: Iterable[str], *, refuses: bool = True, kind: Callable[[str], object] = str
    ) -> None:
        self.name = name
        self.known = tuple(known)
        self.refuses = refuses
        self.kind = kind

    @classmethod
    def of(cls, words: type[StrEnum], name: str) -> Self:
        """A list of words of an enumeration; the values are its members."""
        return cls(name, [word.value for word in words], kind=words)

    def read(self, text: str, option: str) -> tuple[object, ...]:
        """Parse a list of words."""
        if self.refuses:
            return tuple(map(self.kind, parse_words(text, option, self.known)))
        names = tuple(part.strip() for part in text.split(","))
        if not all(names):
            raise UsageError(f"{option} {text!r} has an empty name", f"known: {', '.join(self.known)}")
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002  # click's signature
        """The words that may follow the last comma, without those that the list has."""
        from click.shell_completion import CompletionItem  # only a completion needs it

        before, comma, begun = incomplete.rpartition(",")
        return [
            CompletionItem(before + comma + word)
            for word in self.known
            if word.startswith(begun) and word not in before.split(",")
        ]


class Sysctls(_Value):
    """A sysctl with its value as a tuple of one text, or with `is_list` with each of several, as in `sweep`.

    A comma separates the values of a list; where a value has commas of its own, as that of ip_local_reserved_ports, a
    semicolon does.
    """

    def __init__(self, field: LoadField, *, is_list: bool) -> None:
        self.name, self.field, self.is_list = field.metavar, field, is_list
        self.examples = (*(field.list_examples if is_list else ()), *field.examples)

    def read(self, text: str, option: str) -> tuple[str, ...]:
        """Parse a name and its value; the value gets the form in which the kernel shows it."""
        name, _, given = map(str.strip, text.partition("="))
        comma = ";" if ";" in given or name in COMMA_SEPARATED else ","
        values = given.split(comma) if self.is_list else [given]
        if name == RESERVED_PORTS:
            values = [format_ports(parse_ports(value)) for value in values]
        texts = tuple(dict.fromkeys(f"{name}={' '.join(value.split())}" for value in values))
        if "=" not in text or not all(self.field.is_within((one,)) for one in texts):
            raise UsageError(f"{option} {_shown(text)} is not possible", f"give {self.field.hint}")
        return texts


def _shown(text: str) -> str:
    """What the user typed; quoted if it is empty or has spaces or unusual characters."""
    return text if text.isascii() and text.isprintable() and text and " " not in text else repr(text)


def count(name: str = "N", low: int = 0, high: int = MAX_JSON_INTEGER) -> Quantity:
    """A whole number within bounds."""
    return Quantity(name, parse_count, COUNT_FORM, int, allows=_within(low, high), bounds=f"{low:,} to {high:,}")


def counts(name: str = "N,...", low: int = 0, high: int = MAX_JSON_INTEGER) -> Quantities:
    """Whole numbers within bounds."""
    return Quantities(name, parse_count, COUNT_FORM, int, allows=_within(low, high), bounds=f"{low:,} to {high:,}")


def _within(low: int, high: int) -> Callable[[float], bool]:
    return lambda value: low <= value <= high


def time(unit: str, examples: Iterable[str], **bounds: Any) -> Quantity:  # noqa: ANN401  # `allows` and `bounds`
    """A time in `unit`, one of `connbench.units.TIME_UNITS_NS`, which is also the unit of a number alone."""
    return Quantity("TIME", lambda text: parse_time(text, unit), TIME_FORM, examples=examples, **bounds)


def instant() -> Quantity:
    """A point in time, in us since 1970."""
    return Quantity("TIME", lambda text: parse_instant(text, time_ns() // 1000), INSTANT_FORM, int)


def load_type(field: LoadField, *, is_list: bool = False) -> click.ParamType:  # type: ignore[type-arg]  # as above
    """The type of the option of a field of the load; with `is_list` that of `sweep`, which takes a list."""
    if field.words is not None:
        return Words.of(field.words, field.metavar) if is_list else Word.of(field.words)
    if field.unit is Unit.SYSCTLS:
        return Sysctls(field, is_list=is_list)
    reader, form, kind = _READERS[field.unit]
    is_count = field.unit is Unit.COUNT  # of the others the planner says what is possible
    return (Shares if field.unit is Unit.SHARES else Quantities if is_list else Quantity)(
        field.metavar,
        reader,
        form,
        kind,
        allows=field.is_within if is_count else lambda _: True,
        bounds=field.hint,
        examples=(*field.list_examples, *field.examples) if is_list else field.examples,
    )


_READERS: dict[Unit, tuple[Callable[[str], int | Decimal], str, type[int | float]]] = {
    Unit.COUNT: (parse_count, COUNT_FORM, int),
    Unit.SHARE: (parse_percent, PERCENT_FORM, float),
    Unit.SHARES: (parse_percent, PERCENT_FORM, float),
    Unit.MS: (lambda text: parse_time(text, "ms"), TIME_FORM, float),
    Unit.PER_SECOND: (parse_rate, RATE_FORM, float),
}


def parse_values(text: str, option: str, read: Callable[[str], Number], form: str) -> tuple[Number, ...]:
    """Parse a list of values and ranges with a step: `100,500-2000:500` is 100, 500, 1000, 1500, 2000.

    A range contains its first value, and adds the step up to its last value. A value that occurs twice counts once, at
    its first place. A comma separates values, not thousands: a part that looks like the end of `1,000` is an error.

    Args:
        text: The value of the option.
        option: The option, for messages.
        read: Parses one value, and raises ValueError if it cannot: a parser of `connbench.units`.
        form: The form of a value, for messages.

    Raises:
        UsageError: A part has another form, a range is reversed or has no step, or there are too many values.
    """
    found: dict[Number, None] = {}
    parts: list[str] = [part.strip() for part in text.split(",")]
    for before, part in zip(("", *parts), parts, strict=False):
        if before and re.fullmatch(r"0\d\d", part, re.ASCII):
            raise UsageError(
                f"{option} {text!r}: a comma separates values in a list, and {part} is not a value",
                f"write {before},{part} as {before}{part} or {before}k",
            )
        found |= dict.fromkeys(_part(part, f"{option} {text!r}", read, form))
    if len(found) > MOST_VALUES:
        raise _too_many(f"{option} {text!r}", len(found))
    return tuple(found)


def _part(part: str, named: str, read: Callable[[str], Number], form: str) -> list[Number]:
    with suppress(ValueError):
        return [read(part)]
    ends = re.fullmatch(r"(.+?)(?<![eE])-([^:]+)(?::(.+))?", part)  # the hyphen in 1e-3 does not make a range
    low_text, high_text, step_text = ends.groups(default="") if ends else ("", "", "")
    try:
        low, high, step = read(low_text), read(high_text), read(step_text or low_text)
    except ValueError as error:
        raise UsageError(
            f"{named}: {part!r} is not {form.partition(',')[0]}", f"write {form}; a range has a step: LOW-HIGH:STEP"
        ) from error
    if not step_text:
        raise UsageError(f"{named}: range {part} has no step", f"add one: {part}:STEP")
    if low > high:
        raise UsageError(f"{named}: range {part} is reversed", f"write it as {high_text}-{low_text}:{step_text}")
    if not step:
        raise UsageError(f"{named}: range {part} has a step of 0", "give a step above 0")
    count = int((high - low) // step) + 1
    if count > MOST_VALUES:
        raise _too_many(named, count)
    return [low + step * i for i in range(count)]


def _too_many(named: str, count: int) -> UsageError:
    return UsageError(f"{named}: {count:,} are too many", f"a list takes up to {MOST_VALUES:,}")


def parse_words(text: str, option: str, known: Sequence[str]) -> tuple[str, ...]:
    """Parse a list of words; a word that occurs twice counts once.

    Raises:
        UsageError: A word is not in `known`.
    """
    words = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for word in words:
        if word not in known:
            raise UsageError(f"{option} {text!r}: {word!r} is unknown", suggest(word, known))
    return words
