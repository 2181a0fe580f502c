"""What a worker is given to do: a task of the round, and its part of the churn."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Self

from connbench.draws import Draws
from connbench.linux.peerreset import PeerReset
from connbench.model import RoundPlan
from connbench.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """The part of a round one worker makes.

    Attributes:
        client: The client it belongs to.
        rows: Its attempts, which may end earlier: once `capacity` sockets are open.
        path_by_row: The path of each row, and `victims` the row that each row of the churn replaces.
        held_before: Connections that earlier workers of the client hold, by source.
        epoch: perf_counter_ns() at the beginning of the round.
        descriptor: The samples' shared memory; `columns` is the worker's own mapping of it.
        far: Descriptor of the namespace that the listener is in; None where it is the worker's own.
        reset_peer: Resets a connection from the listener's end, in the worker; None where nobody takes its port
            meanwhile, or the listener is not connbench's own.
    """

    plan: RoundPlan
    draws: Draws
    client: int
    rows: range
    path_by_row: array[int]
    victims: array[int]
    capacity: int
    held_before: tuple[int, ...]
    descriptor: int
    epoch: int
    columns: dict[str, memoryview] = field(default_factory=dict)
    far: int | None = None
    reset_peer: PeerReset | None = None


@dataclass(frozen=True, slots=True)
class ChurnTask:
    """What turns filling into churn: the rows that a worker replaces its connections in, and when.

    Attributes:
        rows: The attempts to make.
        first: The client's first row of the churn, from which `interval_ns` is counted.
        began: When the client began with that row, by perf_counter_ns().
        interval_ns: Time from one replacement to the next; 0 for as fast as it goes.
        timeouts: Attempts of the client just before that timed out one after the other, whoever holds them.
    """

    rows: range
    first: int
    began: int
    interval_ns: float
    timeouts: int = 0

    @classmethod
    def of(cls, plan: RoundPlan, rows: range, first: int, began: int, timeouts: int) -> Self:
        """The task of a plan's churn; its rate is that of all clients together."""
        churn, clients = plan.strategy.load.churn, plan.strategy.load.concurrency
        return cls(rows, first, began, NS_PER_S * clients / churn.rate if churn and churn.rate else 0.0, timeouts)
