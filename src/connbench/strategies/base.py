"""What a strategy is: a name, what it needs and takes, and a recipe the measured loop follows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random

from connbench.linux.sockopts import SocketOption
from connbench.model import PortRange, StrategySpec


class Draw(Enum):
    """What the number drawn for a try means to the loop."""

    NOTHING = "the kernel chooses; the number is not looked at"
    PORT = "the port for bind()"
    WINDOW = "the value of IP_LOCAL_PORT_RANGE"


Reserved = frozenset[int]
"""Ports that the kernel's search passes over: net.ipv4.ip_local_reserved_ports of the namespace."""

Redraw = Callable[[Random], int]
"""Draws the number of a further try."""


def _never(_rng: Random) -> int:
    raise AssertionError("a recipe of one try is never drawn for again")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the loop does for each attempt, as data: one loop serves every strategy.

    Attributes:
        draw: What a drawn number means.
        first: The number of each attempt's first try, drawn before anything is measured, so that the same seed gives
            the same windows and ports however attempts turn out.
        binds: Whether bind() is called, and before it IP_BIND_ADDRESS_NO_PORT set unless a port is drawn.
        redraw: Draws the number of a further try.
        max_tries: Tries an attempt may take.
    """

    draw: Draw
    first: array[int]
    binds: bool = True
    redraw: Redraw = _never
    max_tries: int = 1


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way of coming by a local port.

    Attributes:
        summary: One line for `connbench strategies`.
        needs: Socket options without which it cannot run.
        takes: The parameters of `StrategySpec` it knows.
        recipe: Makes the recipe for a range, a number of attempts, a seeded generator, and the ports that are reserved.
    """

    name: str
    summary: str
    needs: tuple[SocketOption, ...]
    takes: frozenset[str]
    recipe: Callable[[StrategySpec, PortRange, int, Random, Reserved], Recipe]


def numbers(values: Iterable[int]) -> array[int]:
    """Drawn numbers, 4 bytes each: enough for a port and for a packed range."""
    return array("I", values)
