"""What `connbench inspect` found, as one value that reports, gates and exporters read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from connbench.inspect.port_usage import PathUsage, Usage, usage
from connbench.inspect.rates import Comparison, Rates
from connbench.inspect.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A path, and what it belongs to.

    Attributes:
        path: Its ports in use.
        usage: All that is in use in its namespace.
        rates: What changed on it since the dump before; None without an earlier one.
    """

    path: PathUsage
    usage: Usage
    rates: Rates | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What was found.

    Attributes:
        usages: The port usage of each namespace.
        rows: The fullest paths of all, by share of their usable ports, the fullest first.
    """

    usages: Sequence[Usage]
    rows: Sequence[Row]

    @property
    def paths(self) -> int:
        """The number of paths, of which `rows` may be a part."""
        return sum(one.paths for one in self.usages)

    @property
    def sockets(self) -> int:
        """The number of sockets that were read."""
        return sum(len(one.snapshot.sockets) for one in self.usages)


def inspect(
    snapshots: Sequence[Snapshot], most_rows: int | None = None, comparison: Comparison | None = None
) -> Inspection:
    """Group the sockets of namespaces by path.

    Args:
        snapshots: One for each namespace.
        most_rows: How many paths to describe, the fullest; None for all.
        comparison: Has the dump before, if each row is to have its rates since then.
    """
    usages = [usage(snapshot) for snapshot in snapshots]
    rows = [Row(path, one) for one in usages for path in one.rows(most_rows)]
    rows.sort(key=lambda row: row.path.share, reverse=True)
    rows = rows[:most_rows]
    if comparison:
        rates = comparison.compare(usages, [row.path for row in rows])
        rows = [replace(row, rates=one) for row, one in zip(rows, rates, strict=True)]
    return Inspection(usages, rows)
