"""Whether connections show a knee at half of the ports: one rule for the plan, the measurement and the prediction."""

from __future__ import annotations

NARROWEST, WIDEST = 11, 101
"""Connections of the rolling median's window: one in a hundred, within these bounds."""

FEWEST = 4 * NARROWEST
"""Connections below which there is too little to roll over."""


def rolling_width(connections: int) -> int:
    """Odd number of connections that a rolling figure is taken over."""
    return min(WIDEST, max(NARROWEST, connections // 100 | 1))


def can_show_half(connections: int, ports: int) -> bool:
    """Whether so many connections show a knee at half of so many ports.

    connect() searches far from half of the ports on. A knee takes 44 connections to be looked for, and more than half
    of the rolling median's window must lie beyond it.
    """
    return connections >= FEWEST and connections > ports // 2 + rolling_width(connections) // 2


def fewest_to_show_half(ports: int) -> int:
    """The smallest number of connections that `can_show_half`, which is more than there are ports if these are few."""
    number = max(FEWEST, ports // 2 + 1)
    while not can_show_half(number, ports):
        number += 1
    return number
