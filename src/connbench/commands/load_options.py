"""The options that say how many connections a strategy opens, by how many processes, and what follows."""

from __future__ import annotations

from connbench.commands.sections import Section, option
from connbench.commands.values import RATE, SHARE, Word, count, time
from connbench.model import MAX_CONCURRENCY, MOST_ROWS, Close, Protocol

PROTOCOLS = Word([protocol.value for protocol in Protocol])
CLOSES = Word([close.value for close in Close])
GIVE_UP_EXAMPLES = ("100us", "1ms", "10ms")

LOAD_OPTIONS = (
    option(
        Section.OPEN,
        "--fill",
        type=SHARE,
        help="Open a share of the ports, as in 80%, instead of a number of connections.",
    ),
    option(
        Section.OPEN,
        "--protocol",
        type=PROTOCOLS,
        default=Protocol.TCP.value,
        show_default=True,
        metavar="PROTOCOL",
        help="Open tcp or udp sockets. udp needs no listener, and searches for a port in bind().",
    ),
    option(
        Section.LOAD,
        "--concurrency",
        former=("--lanes",),
        type=count("K", 1, MAX_CONCURRENCY),
        default=1,
        show_default=True,
        help="Connect from K processes at the same time.",
    ),
    option(
        Section.LOAD,
        "--give-up-after",
        type=time("ms", GIVE_UP_EXAMPLES),
        help="Give up an attempt that takes longer, as in 1ms, and count it as an error. A number alone is in ms.",
    ),
    option(
        Section.LOAD,
        "--churn",
        type=count(low=1, high=MOST_ROWS),
        help="Replace connections N times after the filling: close one at random, open a new one and time it.",
    ),
    option(
        Section.LOAD,
        "--churn-rate",
        type=RATE,
        help="Replace connections at this rate, as in 100/s.  [default: as fast as possible]",
    ),
    option(
        Section.LOAD,
        "--close",
        type=CLOSES,
        metavar="HOW",
        help="Close connections in the churn by rst, or by fin, which leaves ports in TIME_WAIT.  [default: rst]",
    ),
)
"""What a strategy is put to."""
