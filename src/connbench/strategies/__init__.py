"""The strategies by name, in the order they are listed and taught."""

from __future__ import annotations

from connbench.strategies.base import Draw, Recipe, Strategy
from connbench.strategies.kernel import BIND, PLAIN
from connbench.strategies.local_port_range import PARTITION, RANGE, WINDOW
from connbench.strategies.userspace import RANDOM

__all__ = ["DEFAULT_NAMES", "STRATEGIES", "Draw", "Recipe", "Strategy"]

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy for strategy in (PLAIN, BIND, RANDOM, WINDOW, RANGE, PARTITION)
}

DEFAULT_NAMES = ("plain", "bind", "random", "window")
"""What `connbench run` measures without --strategy."""
