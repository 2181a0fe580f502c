"""The options of `connbench sweep`: those of `run`, some of which take lists, and a few of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import click

from connbench.cli.load_options import share
from connbench.errors import UsageError
from connbench.model import Close, Placement
from connbench.planning.sweeping import parse_numbers, parse_words

DEFAULT_ROUNDS = 3
"""The fewest whose median a single disturbed round cannot move."""

DEFAULT_BUDGET = "1%"


def _wholes(option: str) -> Callable[[str], tuple[int, ...]]:
    def read(text: str) -> tuple[int, ...]:
        numbers = parse_numbers(text, option)
        for number in numbers:
            if number != number.to_integral_value():
                raise UsageError(f"{option} {text!r}: {number} is not a whole number", "for example 1,2,4")
        return tuple(map(int, numbers))

    return read


def _decimals(option: str) -> Callable[[str], tuple[float, ...]]:
    return lambda text: tuple(map(float, parse_numbers(text, option)))


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(number / Decimal(100)) for number in parse_numbers(text, "--fill", unit="%"))


def _words(option: str, known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: parse_words(text, option, known)


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Strategies by commas and by repetition, each once; unknown ones are refused with the plan."""
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",")))


def read_budget(text: str) -> float:
    """Read the share of attempts that may fail, `1%`, as a share of 1."""
    try:
        budget = share(text)
    except UsageError:
        budget = -1.0
    if not 0 <= budget <= 1:
        raise UsageError(f"--error-budget {text!r} is not a share from 0% to 100%", "write it as in 1%")
    return budget


LISTS = (
    click.Option(
        ("--strategy", "strategies"),
        multiple=True,
        callback=_names,
        metavar="NAME,...",
        help="Strategies, run in the order given.  [default: window]",
    ),
    click.Option(
        ("-n", "--connections"),
        type=_wholes("-n"),
        metavar="N,...",
        help="Connections to open.  [default: the ports of the range, times the sources]",
    ),
    click.Option(
        ("--window",),
        type=_wholes("--window"),
        metavar="N,...",
        help="Ports of a window, for window and partition.  [default: 500]",
    ),
    click.Option(
        ("--placement",),
        type=_words("--placement", [placement.value for placement in Placement]),
        metavar="WORD,...",
        help="Random windows inside the range, or clipped at its ends.  [default: inside]",
    ),
    click.Option(
        ("--retries",),
        type=_wholes("--retries"),
        metavar="N,...",
        help="Further draws after one without a port, for window and random.  "
        "[default: window 0; random until it has one]",
    ),
    click.Option(
        ("--sources",),
        type=_wholes("--sources"),
        metavar="N,...",
        help="The first so many addresses from 127.9.9.1 or 2001:db8::1 on.",
    ),
    click.Option(
        ("--fill",),
        type=_shares,
        metavar="SHARE,...",
        help="Open so many of the ports there are, as in 50%-95%:5%; for -n.  [default with --churn: 50%-95%:5%]",
    ),
    click.Option(
        ("--lanes",),
        type=_wholes("--lanes"),
        metavar="K,...",
        help="Connect from K processes at once.  [default: 1]",
    ),
    click.Option(
        ("--give-up-after",),
        type=_decimals("--give-up-after"),
        metavar="MS,...",
        help="Give up an attempt that takes longer; it counts as an error.",
    ),
    click.Option(
        ("--churn",),
        type=_wholes("--churn"),
        metavar="N,...",
        help="Then, N times, close a connection at random and open one, timing each; judged instead of the filling.",
    ),
    click.Option(
        ("--close",),
        type=_words("--close", [close.value for close in Close]),
        metavar="WORD,...",
        help="How churn closes: by rst, or by fin into TIME_WAIT.  [default: rst]",
    ),
    click.Option(
        ("--churn-rate",),
        type=_decimals("--churn-rate"),
        metavar="R,...",
        help="Replacements a second.  [default: as fast as it goes]",
    ),
    click.Option(
        ("--rounds",),
        type=click.IntRange(min=1),
        default=DEFAULT_ROUNDS,
        show_default=True,
        help="Repeat all combinations so often; every figure is the median round's.",
    ),
    click.Option(
        ("-o", "--output"),
        type=click.Path(path_type=Path, readable=False),
        help="Also write a file, .json, .json.gz or .csv, time and again while it runs and at the end.",
    ),
)
"""What stands in the place of run's options of the same names."""

error_budget_option = click.option(
    "--error-budget",
    "budget",
    type=read_budget,
    default=DEFAULT_BUDGET,
    show_default=True,
    metavar="SHARE",
    help="Share of the attempts that may fail, at each load.",
)
charts_option = click.option(
    "--charts",
    type=click.Path(path_type=Path, readable=False),
    metavar="PREFIX",
    help="Also draw PREFIX-windows.png and PREFIX-utilisation.png.",
)


def with_lists(options: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Options of `run`, those that a sweep takes lists of put in their places."""
    lists = {option.name: option for option in LISTS}
    return [lists.get(option.name, option) for option in options]
