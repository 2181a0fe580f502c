"""What a holder is given to do: a share of the round, and its part of the churn."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Self

from connbench.linux.peerreset import PeerReset
from connbench.model import RoundPlan
from connbench.samples import NS_PER_S
from connbench.strategies import Recipe


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a round one holder makes.

    Attributes:
        lane: The lane it belongs to.
        rows: Its attempts, which may end earlier: once `capacity` sockets are open.
        order: The path of each row, and `victims` the row that each row of the churn replaces.
        held_before: Connections that earlier holders of the lane hold, by source.
        epoch: perf_counter_ns() at the beginning of the round.
        descriptor: The samples' shared memory; `columns` is the holder's own mapping of it.
        far: Descriptor of the namespace that the listener is in; None where it is the holder's own.
        reset_peer: Resets a connection from the listener's end, in the holder; None where nobody takes its port
            meanwhile, or the listener is not connbench's own.
    """

    plan: RoundPlan
    recipe: Recipe
    lane: int
    rows: range
    order: array[int]
    victims: array[int]
    capacity: int
    held_before: tuple[int, ...]
    descriptor: int
    epoch: int
    columns: dict[str, memoryview] = field(default_factory=dict)
    far: int | None = None
    reset_peer: PeerReset | None = None


@dataclass(frozen=True, slots=True)
class Turnover:
    """What turns filling into churn: the rows that a holder replaces its connections in, and when.

    Attributes:
        rows: The attempts to make.
        first: The lane's first row of the churn, from which `interval_ns` is counted.
        began: When the lane began with that row, by perf_counter_ns().
        interval_ns: Time from one replacement to the next; 0 for as fast as it goes.
        timeouts: Attempts of the lane just before that timed out one after the other, whoever holds them.
    """

    rows: range
    first: int
    began: int
    interval_ns: float
    timeouts: int = 0

    @classmethod
    def of(cls, plan: RoundPlan, rows: range, first: int, began: int, timeouts: int) -> Self:
        """The turnover of a plan's churn; its rate is that of all lanes together."""
        churn, lanes = plan.strategy.load.churn, plan.strategy.load.lanes
        return cls(rows, first, began, NS_PER_S * lanes / churn.rate if churn and churn.rate else 0.0, timeouts)
