"""The options that say what a strategy is put to: how full, by how many lanes, and what follows."""

from __future__ import annotations

import math
from decimal import Decimal

import click

from connbench.errors import UsageError
from connbench.model import Close, Protocol


def share(text: str | float) -> float:
    """Read a share of the range, `80%`, as a share of 1.

    The digits are divided as they stand: 0.7 / 100 in binary is less than 0.007, and another share than a sweep's.
    """
    digits, percent, rest = str(text).strip().partition("%")
    try:
        value = float(Decimal(digits) / 100)
    except ArithmeticError:  # no number, or one out of all bounds
        value = math.nan
    if not percent or rest or not math.isfinite(value):
        raise UsageError(f"--fill {text!r} is not a share", "write it as in 80%")
    return value


def number_or_nan(text: str | float) -> float:
    """Read a number; `nan` for what is none, which compares with nothing: ask whether it lies within bounds."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def number(text: str | float) -> float:
    """Read a number that is one."""
    value = number_or_nan(text)
    if not math.isfinite(value):
        raise click.BadParameter(f"{text!r} is not a number")
    return value


PROTOCOLS = click.Choice([protocol.value for protocol in Protocol])
CLOSES = click.Choice([close.value for close in Close])

LOAD_OPTIONS = (
    click.option(
        "--protocol",
        type=PROTOCOLS,
        default=Protocol.TCP.value,
        show_default=True,
        help="Kind of sockets; UDP needs no listener, and its search is in bind().",
    ),
    click.option("--fill", type=share, metavar="SHARE", help="Open so many of the ports there are, as in 80%; for -n."),
    click.option(
        "--lanes", type=int, default=1, show_default=True, metavar="K", help="Connect from K processes at once."
    ),
    click.option(
        "--give-up-after",
        type=number,
        metavar="MS",
        help="Give up an attempt that takes longer, and count it as such.",
    ),
    click.option(
        "--churn", type=int, metavar="N", help="Then, N times, close a connection at random and open one, timing each."
    ),
    click.option("--close", type=CLOSES, help="How churn closes: by reset or by FIN, into TIME_WAIT.  [default: rst]"),
    click.option(
        "--churn-rate", type=number, metavar="R", help="Replacements a second.  [default: as fast as it goes]"
    ),
)
