"""Whether a number of connections can show a knee at half of the ports: one rule for plan, analysis and prediction."""

from __future__ import annotations

NARROWEST_WINDOW, WIDEST_WINDOW = 11, 101
"""Limits of the rolling median's window, in connections; between them it has 1 % of the connections."""

FEWEST_CONNECTIONS = 4 * NARROWEST_WINDOW
"""The smallest number of connections in which a knee is looked for."""


def rolling_width(connections: int) -> int:
    """The width of the rolling median's window in connections, an odd number."""
    return min(WIDEST_WINDOW, max(NARROWEST_WINDOW, connections // 100 | 1))


def can_show_half(connections: int, ports: int) -> bool:
    """Whether a round can show a knee at half of the ports.

    Beyond half of the ports connect() has to search far. The round needs `FEWEST_CONNECTIONS`, and more than half of
    the rolling median's window must lie beyond half of the ports.

    Args:
        connections: Connections that the round opens.
        ports: Ports that they can use.
    """
    return connections >= FEWEST_CONNECTIONS and connections > ports // 2 + rolling_width(connections) // 2


def fewest_to_show_half(ports: int) -> int:
    """The smallest number of connections that `can_show_half`; larger than `ports` if these are few."""
    number = max(FEWEST_CONNECTIONS, ports // 2 + 1)
    while not can_show_half(number, ports):
        number += 1
    return number
