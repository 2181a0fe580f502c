"""What a worker has to do (`WorkerTask`, `ChurnTask`), and how its loop ended (`LoopEnd`).

Both loops, `loop.py` and `_loop.c`, read these objects by the names of their attributes.
"""

from __future__ import annotations

import errno
import os
import time
from _socket import SO_LINGER, SO_REUSEADDR, SO_REUSEPORT, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, socket
from array import array
from dataclasses import dataclass, field, replace
from enum import IntEnum
from mmap import mmap
from typing import Self

from connbench.draws import Draws, Kind
from connbench.errors import RunFault
from connbench.linux.address_family import family_of
from connbench.linux.faults import advice_for_errno
from connbench.linux.sock_destroy import PeerReset
from connbench.linux.sockopts import LINGER_RESET
from connbench.model import Close, Link, Phase, Protocol, Reuse, RoundPlan
from connbench.samples import scratch
from connbench.strategies import Strategy
from connbench.units import MS_PER_S, NS_PER_MS, NS_PER_S

TIMEOUTS_IN_A_ROW = 5
"""After as many time-outs the run ends: the listener does not answer, and N attempts would take N time-outs."""

LONGEST_SLEEP_NS = 50e6
"""A loop sleeps in pieces of this length at most, and reads the stop flag after each."""

NO_LIMIT_NS = 2**62
"""Stands for no limit of the acquire time."""


def sleep_until(at_ns: int, stop: memoryview[int]) -> None:
    """Sleep until an instant of CLOCK_REALTIME, in ns, or until the stop flag is set."""
    while not stop[0] and (left := at_ns - time.time_ns()) > 0:
        time.sleep(min(left, LONGEST_SLEEP_NS) / NS_PER_S)


def counters_of_client(draws: Draws, rows: range) -> tuple[memoryview, memoryview]:
    """`held_ports` and `positions` of a client before its first attempt, in memory that its workers share.

    Args:
        draws: The draws of the round.
        rows: The rows that the client fills.
    """
    held_ports, positions = (memoryview(mmap(-1, 8 * draws.spaces)).cast("q") for _ in range(2))
    if draws.kind is Kind.SEQUENTIAL:
        for space in range(draws.spaces):
            positions[space] = draws.first_position(rows, space)
    return held_ports, positions


def never_set() -> memoryview:
    """A stop flag that nobody sets."""
    return memoryview(array("i", (0,)))


@dataclass(slots=True)
class WorkerTask:
    """The connections that a worker opens: rows of the samples, and all that the loop needs for them.

    A worker completes the task that it gets from the engine by `columns`, `capacity` and `reset_peer`.

    Attributes:
        plan: The round.
        draws: The draws of the round.
        client: The number of the client that the worker belongs to, from 0.
        rows: The rows to fill. The worker stops early, once it has opened `capacity` connections.
        capacity: The most connections that the worker may open.
        held_ports: How many connections the client holds, for each port space: counted where an attempt draws until it
            finds a free port. All workers of the client share the memory.
        positions: Where the client is in its list of ports, for each port space, if it has one; shared, too.
        descriptor: The shared memory of the samples.
        all_rows: How many rows that memory has.
        epoch: perf_counter_ns() at the beginning of the round; `started_ns` counts from it.
        columns: The worker's own mapping of the samples, by the column's name.
        stop: The stop flag, an int of C: the loop makes no further attempt once it is not 0.
        far: The descriptor of the listener's network namespace; None if that is the worker's own.
        namespace: The descriptor of the network namespace to connect from; None for the engine's.
        resets_peer: Whether the worker resets connections at the listener's end, too: another client can take the port
            meanwhile, and the listener is connbench's own.
        reset_peer: What does that; None if nothing does.
        names_port: Whether each attempt names the one port that it takes: see `Strategy.at_one_port`.
        order: Of a profile: the numbers of the ports in the order in which to put them in use, from `order_of_ports`;
            None where the kernel cannot take one port, so that the strategy itself opens connections.
    """

    plan: RoundPlan
    draws: Draws
    client: int
    rows: range
    capacity: int
    held_ports: memoryview
    positions: memoryview
    descriptor: int
    epoch: int
    columns: dict[str, memoryview] = field(default_factory=dict)
    stop: memoryview = field(default_factory=never_set)
    all_rows: int = 0
    far: int | None = None
    namespace: int | None = None
    resets_peer: bool = False
    reset_peer: PeerReset | None = None
    names_port: bool = False
    order: array[int] | None = None

    @property
    def traits(self) -> Strategy:
        """The row of the strategy whose calls the loop makes."""
        traits = self.plan.strategy.traits
        return traits.at_one_port if self.names_port else traits

    def occupying(self, rows: range, capacity: int) -> WorkerTask:
        """The task of putting ports in use to reach a level of a profile: nobody reads its samples.

        Args:
            rows: Positions in `order`; the rows of the new task count from 0.
            capacity: The most connections that the worker may open.
        """
        task = replace(self, rows=range(len(rows)), capacity=capacity, columns=scratch(len(rows)))
        if self.order is None:
            return task
        numbers = self.order[rows.start : rows.stop]
        draws = replace(self.draws, kind=Kind.FIXED, fixed=numbers, max_tries=1)
        return replace(task, names_port=True, draws=draws)

    def sampling(self, in_use: int) -> WorkerTask:
        """The task of timing attempts at a level of a profile; each replaces the one before, in the only slot.

        Args:
            in_use: The ports in use. So many attempts of a strategy without chance have been before.
        """
        if self.draws.kind is Kind.SEQUENTIAL:
            self.positions[0] = in_use
        return replace(self, rows=range(1), capacity=1, draws=self.draws.at_level(self.plan, in_use))

    @property
    def family(self) -> int:
        """The address family of the sockets."""
        return int(family_of(self.plan.plan.targets[0].host))

    @property
    def kind(self) -> int:
        """The kind of the sockets: SOCK_STREAM or SOCK_DGRAM."""
        return SOCK_STREAM if self.plan.strategy.load.protocol is Protocol.TCP else SOCK_DGRAM

    @property
    def defers_port(self) -> bool:
        """Whether IP_BIND_ADDRESS_NO_PORT is set. UDP searches for a port in bind(): there is no search to defer."""
        return self.plan.strategy.traits.defers_port and self.kind == SOCK_STREAM

    @property
    def reuse_option(self) -> int:
        """The option of SOL_SOCKET with which bind() shares ports; 0 for none."""
        return {None: 0, Reuse.ADDRESS: SO_REUSEADDR, Reuse.PORT: SO_REUSEPORT}[self.plan.strategy.reuse]

    @property
    def draws_until_free(self) -> bool:
        """Whether an attempt of the filling draws until it finds a free port, as none can know that no port is free."""
        return self.draws.kind in {Kind.PORT, Kind.WINDOW} and self.plan.strategy.retries is None

    @property
    def resets(self) -> bool:
        """Whether the churn closes connections by a reset."""
        churn = self.plan.strategy.load.churn
        return churn is None or churn.close is Close.RST

    @property
    def limit_ns(self) -> int:
        """The acquire time in ns beyond which an attempt is given up."""
        give_up_ms = self.plan.strategy.load.give_up_ms
        return NO_LIMIT_NS if give_up_ms is None else int(give_up_ms * NS_PER_MS)

    @property
    def timeout(self) -> float:
        """How long a connect() waits for an answer, in seconds: no longer than an attempt may take."""
        timeout, give_up_ms = self.plan.plan.timeout, self.plan.strategy.load.give_up_ms
        return timeout if give_up_ms is None else min(timeout, give_up_ms / MS_PER_S)

    def leave(self, descriptor: int) -> None:
        """Close the connection that the churn replaces."""
        leaving = socket(self.family, self.kind, 0, descriptor)
        if self.resets:
            if self.reset_peer:
                self.reset_peer(leaving)
            leaving.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)
        leaving.close()


@dataclass(frozen=True, slots=True)
class ChurnTask:
    """When a worker replaces connections: it closes one, and opens another in its place.

    Attributes:
        filled: The rows that the client has filled, of which each row of the churn replaces one.
        first: The client's first row of the churn; `interval_ns` is counted from it.
        began: perf_counter_ns() when the client began with that row.
        interval_ns: The time from one replacement to the next in ns; 0 for no pause.
        timeouts: How many attempts in a row had timed out when the client's previous worker stopped; the loop goes on
            counting from there.
    """

    filled: range
    first: int
    began: int
    interval_ns: float
    timeouts: int = 0

    @property
    def numbers(self) -> tuple[float, ...]:
        """All but `timeouts`, for a command: a worker that derives them from the plan itself has more memory."""
        return self.filled.start, self.filled.stop, self.first, self.began, self.interval_ns

    @classmethod
    def from_numbers(cls, numbers: list[str]) -> Self:
        """The task of `numbers` and `timeouts`, as words of a command."""
        start, stop, first, began, interval_ns, timeouts = numbers
        return cls(range(int(start), int(stop)), int(first), int(began), float(interval_ns), int(timeouts))

    @classmethod
    def in_one_slot(cls, first: int) -> Self:
        """The task of attempts that replace one another, from the row `first` on."""
        return cls(range(1), first, 0, 0.0)

    @classmethod
    def of(cls, plan: RoundPlan, client: int, began: int, timeouts: int = 0) -> Self:
        """The task of a client's rows. `--churn-rate` is the rate of all clients together.

        Args:
            plan: The round.
            client: The number of the client.
            began: See `began` of the class.
            timeouts: See `timeouts` of the class.
        """
        filled, churning = (plan.rows_of_clients(phase)[client] for phase in (Phase.FILL, Phase.CHURN))
        churn, clients = plan.strategy.load.churn, plan.strategy.load.concurrency
        interval_ns = NS_PER_S * clients / churn.rate if churn and churn.rate else 0.0
        return cls(filled, churning.start, began, interval_ns, timeouts)


class Reason(IntEnum):
    """Why a loop ended."""

    DONE = 0
    """It made all attempts."""
    CAPACITY = 1
    """It opened as many connections as the worker may."""
    STOPPED = 2
    """The stop flag is set."""
    NO_SOCKET = 3
    """socket() failed."""
    NO_ANSWER = 4
    """TIMEOUTS_IN_A_ROW attempts in a row timed out."""


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """How a loop ended.

    Attributes:
        reason: Why.
        timeouts: How many attempts at the end timed out in a row.
        row: With NO_SOCKET and NO_ANSWER the row of the last attempt.
        errno: With NO_SOCKET the errno of socket().
    """

    reason: Reason
    timeouts: int
    row: int = 0
    errno: int = 0

    def fault(self, task: WorkerTask) -> RunFault | None:
        """The fault that ended it; None where it made its attempts, or was stopped.

        Args:
            task: What it opened.
        """
        if self.reason is Reason.NO_SOCKET:
            name, meaning = errno.errorcode.get(self.errno, ""), os.strerror(self.errno)
            return RunFault(
                f"socket() failed at attempt {self.row + 1} with {name} ({meaning})",
                f"{advice_for_errno(self.errno)}; or ask for fewer with -n",
            )
        if self.reason is Reason.NO_ANSWER:
            targets = " and ".join(map(str, task.plan.plan.targets))
            option = "--timeout" if task.timeout == task.plan.plan.timeout else "--give-up-after"
            what = "handshakes" if task.plan.strategy.load.in_flight else "connect()"
            is_translated = task.plan.plan.link is Link.NAT
            return RunFault(
                f"{TIMEOUTS_IN_A_ROW} {what} in a row took longer than {task.timeout:g} s, "
                f"the last at attempt {self.row + 1}",
                "the router may have no port left: ask for fewer connections, or give more --nat-ports"
                if is_translated
                else f"check that {targets} still accepts, or give more {option}",
            )
        return None
