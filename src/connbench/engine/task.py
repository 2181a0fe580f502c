"""What a worker has to do: the connections to open (`WorkerTask`), and those to replace (`ChurnTask`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from connbench.draws import Draws
from connbench.linux.sock_destroy import PeerReset
from connbench.model import Phase, RoundPlan
from connbench.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """The connections that a worker opens: rows of the samples, and all that the loop needs for them.

    Attributes:
        plan: The round.
        draws: The draws of the round.
        client: The number of the client that the worker belongs to, from 0.
        rows: The rows to fill. The worker stops early, once it has opened `capacity` connections.
        capacity: The most connections that the worker may open.
        held_before: How many connections the client's earlier workers hold, for each source.
        descriptor: The shared memory of the samples.
        epoch: perf_counter_ns() at the beginning of the round; `started_ns` counts from it.
        columns: The worker's own mapping of the samples, by the column's name.
        far: The descriptor of the listener's network namespace; None if that is the worker's own.
        reset_peer: Resets a connection at the listener's end. None where no other client can take the port meanwhile,
            and where the listener is not connbench's own.
    """

    plan: RoundPlan
    draws: Draws
    client: int
    rows: range
    capacity: int
    held_before: tuple[int, ...]
    descriptor: int
    epoch: int
    columns: dict[str, memoryview] = field(default_factory=dict)
    far: int | None = None
    reset_peer: PeerReset | None = None


@dataclass(frozen=True, slots=True)
class ChurnTask:
    """The connections that a worker replaces, and when: it closes one and opens another in its place.

    Attributes:
        rows: The rows of the churn to make.
        filled: The rows that the client has filled, of which each row of the churn replaces one.
        first: The client's first row of the churn; `interval_ns` is counted from it.
        began: perf_counter_ns() when the client began with that row.
        interval_ns: The time from one replacement to the next in ns; 0 for no pause.
        timeouts: How many attempts in a row had timed out when the client's previous worker stopped; the loop goes on
            counting from there.
    """

    rows: range
    filled: range
    first: int
    began: int
    interval_ns: float
    timeouts: int = 0

    @classmethod
    def of(cls, plan: RoundPlan, client: int, rows: range, began: int, timeouts: int) -> Self:
        """The task of a client's rows. `--churn-rate` is the rate of all clients together.

        Args:
            plan: The round.
            client: The number of the client.
            rows: The rows of the churn to make.
            began: See `began` of the class.
            timeouts: See `timeouts` of the class.
        """
        filled, churning = (plan.rows_of_clients(phase)[client] for phase in (Phase.FILL, Phase.CHURN))
        churn, clients = plan.strategy.load.churn, plan.strategy.load.concurrency
        interval_ns = NS_PER_S * clients / churn.rate if churn and churn.rate else 0.0
        return cls(rows, filled, churning.start, began, interval_ns, timeouts)
