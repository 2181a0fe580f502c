"""The options of `connbench sweep`: those of `run`, some of which take lists, and a few of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from connbench.commands.load_options import GIVE_UP_EXAMPLES
from connbench.commands.options import NAMES, RETRIES_HELP, WINDOW_HELP, flatten
from connbench.commands.sections import Option, Section, option
from connbench.commands.values import SEVERAL_RATES, SEVERAL_SHARES, Quantity, Words, count, counts, times
from connbench.model import MAX_CONCURRENCY, MAX_PORT, MOST_ROWS, Close, Placement
from connbench.planner.sources import MOST_SOURCES
from connbench.strategies import STRATEGIES
from connbench.units import PERCENT_FORM, parse_percent

DEFAULT_ROUNDS = 3
"""The fewest whose median a single disturbed round cannot move."""

DEFAULT_BUDGET = "1%"


BUDGET = Quantity(
    "SHARE",
    parse_percent,
    PERCENT_FORM,
    allows=lambda share: 0 <= share <= 1,
    bounds="0% to 100%",
    examples=("0%", DEFAULT_BUDGET, "5%"),
)


def _once(context: click.Context, option: click.Parameter, given: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Strategies, each once: whoever names one twice wants it in the product once, as with every other list."""
    return tuple(dict.fromkeys(flatten(context, option, given)))


LISTS = (
    Option(
        ("--strategy", "strategies"),
        section=Section.OPEN,
        multiple=True,
        type=NAMES,
        callback=_once,
        help=f"Measure these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  [default: window]",
    ),
    Option(
        ("-n", "--connections"),
        section=Section.OPEN,
        type=counts(low=1, high=MOST_ROWS),
        help="Open N connections.  [default: one for each port and source address]",
    ),
    Option(
        ("--fill",),
        section=Section.OPEN,
        type=SEVERAL_SHARES,
        help="Open a share of the ports, as in 50%-95%:5%, instead of a number of connections.  "
        "[default with --churn: 50%-95%:5%]",
    ),
    Option(
        ("--window",),
        section=Section.OPEN,
        type=counts(low=1, high=MAX_PORT),
        help=WINDOW_HELP,
    ),
    Option(
        ("--placement",),
        section=Section.OPEN,
        type=Words("WHERE,...", [placement.value for placement in Placement]),
        help="Place random windows inside the range, or let them be clipped at its ends.  [default: inside]",
    ),
    Option(
        ("--retries",),
        section=Section.OPEN,
        type=counts(),
        help=RETRIES_HELP,
    ),
    Option(
        ("--rounds",),
        section=Section.OPEN,
        type=count(low=1),
        default=DEFAULT_ROUNDS,
        show_default=True,
        help="Measure all combinations N times, in turn. Each figure is that of the median round.",
    ),
    Option(
        ("--sources",),
        section=Section.PORTS,
        type=counts(low=1, high=MOST_SOURCES),
        help="Connect from N addresses, counted up from 127.9.9.1 or 2001:db8::1.",
    ),
    Option(
        ("--concurrency",),
        section=Section.LOAD,
        former=("--lanes",),
        type=counts("K,...", 1, MAX_CONCURRENCY),
        help="Connect from K processes at the same time.  [default: 1]",
    ),
    Option(
        ("--give-up-after",),
        section=Section.LOAD,
        type=times("ms", GIVE_UP_EXAMPLES),
        help="Give up an attempt that takes longer, as in 1ms, and count it as an error. A number alone is in ms.",
    ),
    Option(
        ("--churn",),
        section=Section.LOAD,
        type=counts(low=1, high=MOST_ROWS),
        help="Replace connections N times after the filling: close one at random, open a new one and time it. "
        "The churn is judged, not the filling.",
    ),
    Option(
        ("--churn-rate",),
        section=Section.LOAD,
        type=SEVERAL_RATES,
        help="Replace connections at this rate, as in 100/s.  [default: as fast as possible]",
    ),
    Option(
        ("--close",),
        section=Section.LOAD,
        type=Words("HOW,...", [close.value for close in Close]),
        help="Close connections in the churn by rst, or by fin, which leaves ports in TIME_WAIT.  [default: rst]",
    ),
    Option(
        ("-o", "--output"),
        section=Section.OUTPUT,
        type=click.Path(path_type=Path, readable=False),
        metavar="FILE",
        help="Save the result to FILE (.json, .json.gz or .csv), several times during the sweep and at its end.",
    ),
)
"""What stands in the place of run's options of the same names."""

error_budget_option = option(
    Section.GATE,
    "--error-budget",
    "budget",
    type=BUDGET,
    default=DEFAULT_BUDGET,
    show_default=True,
    help="Allow this share of the attempts to fail, at each load.",
)
charts_option = option(
    Section.OUTPUT,
    "--charts",
    type=click.Path(path_type=Path, readable=False),
    metavar="PREFIX",
    help="Draw the pictures PREFIX-windows.png and PREFIX-utilisation.png.",
)


def with_lists(options: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Options of `run`, those that a sweep takes lists of put in their places."""
    lists = {option.name: option for option in LISTS}
    return [lists.get(option.name, option) for option in options]
