"""Check before a run that this machine, control group and user have the resources that each round needs.

`connbench doctor` shows the same requirements that a run is refused by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup_limits, limits
from connbench.linux.cgroup_limits import Remaining
from connbench.linux.limits import LIBRARY_BYTES, SPARE_DESCRIPTORS, UNLIMITED
from connbench.model import Listener, Plan, RoundPlan
from connbench.samples import ROW_BYTES
from connbench.units import memory

KERNEL_BYTES = 8 << 10
"""Slab memory of a connection with both ends on this machine: 7.8 GB were measured for a million; rounded up."""

CHARGED_BYTES = 4608
"""What a control group is charged for a connecting socket: 4.0 kB (TCP) and 2.8 kB (UDP) were measured on Linux 6.18.

The kernel makes the other end in a softirq and, until it is accepted, charges it to no group.
"""

ACCEPTED_BYTES = 2048
"""What accept() adds to that charge: 1.4 kB were measured."""

LISTENING_BYTES = 5 << 10
"""Slab memory of a listening socket: 4.1 kB were measured."""

WORKER_BYTES = 2560 << 10
"""Memory of each further process: 2.0 MB were measured in each of 200, and 2.4 MB were charged to its group."""

HELD_BYTES = 32
"""Memory of a worker for each socket it holds: 7 bytes (loop in C) and 20 (in Python) were measured."""

COPIES = 3
"""Copies of all samples in memory while a result file is written."""

RESERVE = 256 << 20
"""Bytes of the machine's memory that connbench leaves for other processes and for its own main process."""

GROUP_RESERVE = 96 << 20
"""Bytes of a control group's memory for the main process and the engine: the peak of a small run is 85 MB."""


@dataclass(frozen=True, slots=True)
class Available:
    """The resources that this machine and user have available.

    Attributes:
        memory: Bytes available on the machine.
        files: Files that may still be opened by all processes together (fs.file-max).
        files_each: Files one process may open (RLIMIT_NOFILE, hard).
        processes: Processes that may still be started.
        processes_by: The limit that says so.
        group: Bytes that the control groups leave, and the tightest limit of them; None without any.
        address_space: Bytes that a process may still map (RLIMIT_AS).
    """

    memory: int
    files: int
    files_each: int
    processes: int
    processes_by: str = "kernel.pid_max"
    group: Remaining | None = None
    address_space: int = UNLIMITED

    @classmethod
    def here(cls) -> Self:
        """Read them from the kernel."""
        processes, by = limits.processes_left()
        return cls(
            limits.machine_memory(),
            limits.free_files(),
            limits.open_files()[1],
            processes,
            by,
            cgroup_limits.memory_left(),
            limits.free_address_space(),
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """The resources that a round needs.

    Attributes:
        connections: How many are open at once.
        listener: Who holds the other ends; a backlog listener keeps those of closed connections, too.
        replaced: How many are closed and opened again meanwhile; of a profile those that are timed and closed.
        concurrency: How many clients connect at the same time, each a chain of workers.
        listening: Sockets of connbench's own that listen.
        attempts: Attempts of all rounds, whose samples are kept to the end.
    """

    connections: int
    listener: Listener
    replaced: int = 0
    concurrency: int = 1
    listening: int = 0
    attempts: int = 0

    @classmethod
    def of(cls, planned: RoundPlan, attempts: int) -> Self:
        """The needs of a round; `attempts` is the number of the whole plan, of `total_attempts`."""
        plan = planned.plan
        return cls(
            min(planned.connections, planned.capacity),  # an attempt without a port leaves nothing open
            plan.listener,
            planned.handshakes - planned.connections,
            planned.strategy.load.concurrency,
            len(plan.targets) if planned.is_listener_ours else 0,
            attempts,
        )

    @property
    def sockets(self) -> int:
        """Open files of all processes; the listener's end of a connection is a file once it is accepted."""
        return self.connections * (2 if self.listener is Listener.ACCEPT else 1) + self.listening

    def workers(self, each: int) -> int:
        """Processes that hold connections if each can have `each` sockets."""
        of_client = -(-self.connections // self.concurrency)
        workers = self.concurrency * -(-of_client // each)
        return workers + (self.connections // each + 1 if self.listener is Listener.ACCEPT else 0)

    @property
    def samples(self) -> int:
        """Bytes of the samples: of this round in shared memory, and of all rounds while they are saved."""
        return ROW_BYTES * (self.connections + self.replaced + COPIES * self.attempts)

    def queued(self) -> int:
        """Bytes of slab memory of the closed connections in a listener's queue."""
        return self.replaced * KERNEL_BYTES // 2 if self.listener is Listener.BACKLOG else 0

    def memory(self, each: int) -> int:
        """Bytes of the machine's memory, without `queued`; a worker can have `each` sockets."""
        ends = 1 if self.listener in {Listener.EXTERNAL, Listener.NONE} else 2
        return self.connections * KERNEL_BYTES * ends // 2 + self._own(each) + RESERVE

    def charged(self, each: int) -> int:
        """Bytes that the kernel charges to the control group of this process."""
        accepted = ACCEPTED_BYTES if self.listener is Listener.ACCEPT else 0
        return self.connections * (CHARGED_BYTES + accepted) + self._own(each) + GROUP_RESERVE

    def _own(self, each: int) -> int:
        """Bytes of processes, samples and listening sockets."""
        held = HELD_BYTES * self.sockets
        return self.workers(each) * WORKER_BYTES + held + self.listening * LISTENING_BYTES + self.samples


@dataclass(frozen=True, slots=True)
class Requirement:
    """How much of one resource a round needs, and how much is free.

    Attributes:
        name: The resource.
        needed: How much the round needs.
        free: How much is free.
        message: Both in words.
        hint: What the user can do if it is too little.
    """

    name: str
    needed: int
    free: int
    message: str
    hint: str = ""

    @property
    def is_met(self) -> bool:
        """Whether enough is free."""
        return self.needed <= self.free


def requirements(needs: Needs, free: Available) -> Iterator[Requirement]:
    """The requirements of a round, one by one; after one that is not met, those that depend on it are left out."""
    each = free.files_each - SPARE_DESCRIPTORS - needs.listening
    connections = f"{needs.connections:,} connection{'s' if needs.connections > 1 else ''}"
    listening = f" and {needs.listening:,} listening sockets" if needs.listening > 1 else ""
    one = Requirement(
        "files of a process",
        needs.listening + SPARE_DESCRIPTORS + 1,
        free.files_each,
        f"a process needs {needs.listening + SPARE_DESCRIPTORS + 1:,} open files"
        + (f" with {needs.listening:,} listening sockets" if listening else "")
        + f", and RLIMIT_NOFILE allows {free.files_each:,}",
        f"raise it as root: ulimit -Hn {max(4096, 2 * needs.listening)}"
        + (", or give fewer --target" if needs.listening > 1 else ""),
    )
    yield one
    if not one.is_met:
        return
    workers = needs.workers(each)
    yield Requirement(
        "files of all processes",
        needs.sockets + workers * SPARE_DESCRIPTORS,
        free.files,
        f"{connections}{listening} need {needs.sockets + workers * SPARE_DESCRIPTORS:,} open files, "
        f"and fs.file-max {_leaves(free.files)}",
        f"raise it: sysctl fs.file-max={needs.sockets * 2 + workers * SPARE_DESCRIPTORS}, "
        "or ask for fewer with -n or --fill",
    )
    of_files = f"{workers:,} process{'es' if workers > 1 else ''} of {free.files_each:,} files each"
    yield Requirement(
        "files of the engine",
        workers,
        each,
        f"{connections} need {of_files}, and the engine, which starts them, has files for {each:,} of them",
        "as root raise RLIMIT_NOFILE: ulimit -Hn 20000; or ask for fewer with -n or --fill",
    )
    yield Requirement(
        "processes",
        workers + 1,  # the engine
        free.processes,
        f"{connections} need {of_files} and one that starts them, and {free.processes_by} leaves {free.processes:,}",
        f"raise RLIMIT_NOFILE or {free.processes_by}, or ask for fewer with -n or --fill",
    )
    samples = f" and the samples of {needs.attempts:,} attempts" if needs.attempts > needs.connections else ""
    yield from _of_memory(needs, free, each, connections + listening + samples)


def _of_memory(needs: Needs, free: Available, each: int, what: str) -> Iterator[Requirement]:
    needed = needs.memory(each)
    yield Requirement(
        "memory",
        needed,
        free.memory,
        f"{what} need about {memory(needed)}, and {memory(free.memory)} are free",
        _fewer(needs, lambda fewer: fewer.memory(each) <= free.memory),
    )
    queued = needs.queued()
    if queued:
        fits = max(0, free.memory - needed) * 2 // KERNEL_BYTES
        yield Requirement(
            "memory of the queue",
            needed + queued,
            free.memory,
            f"{needs.replaced:,} closed connections in the listener's queue, and {needs.connections:,} open ones, "
            f"need about {memory(needed + queued)}, and {memory(free.memory)} are free",
            f"use --listener accept, which keeps no closed ones; or --churn {fits}, which fits",
        )
    if free.group:
        charged = needs.charged(each)
        yield Requirement(
            "memory of the control group",
            charged,
            free.group.amount,
            f"{what} need about {memory(charged)}, and the control group leaves {memory(free.group.amount)} "
            f"({free.group.limit})",
            "raise that limit, or "
            + _fewer(needs, lambda fewer: free.group is not None and fewer.charged(each) <= free.group.amount),
        )
    if free.address_space < UNLIMITED:
        mapped = needs.samples + HELD_BYTES * min(each, needs.connections) + LIBRARY_BYTES
        yield Requirement(
            "address space",
            mapped,
            free.address_space,
            f"{what} need about {memory(mapped)} of address space, "
            f"and RLIMIT_AS leaves a process {memory(free.address_space)}",
            "raise it (ulimit -v unlimited), or ask for fewer with -n or --rounds",
        )


def _fewer(needs: Needs, fits: Callable[[Needs], bool]) -> str:
    """What to do if memory is too little: the largest number of connections for which it suffices."""
    low, high = 0, needs.connections
    while high - low > 1:
        middle = (low + high) // 2
        attempts = needs.attempts * middle // needs.connections
        if fits(replace(needs, connections=middle, attempts=attempts)):
            low = middle
        else:
            high = middle
    many = needs.attempts > 2 * needs.connections
    if not low:
        return "ask for fewer --rounds or --strategy" if many else "free some: not one connection fits"
    low -= low % 10 ** max(0, len(str(low)) - 2)  # what is free changes meanwhile
    return f"ask for fewer: -n {low} fits" + (", or fewer --rounds" if many else "")


def _leaves(number: int) -> str:
    return "sets no limit" if number >= UNLIMITED else f"leaves {number:,}"


def total_attempts(plan: Plan) -> int:
    """The number of attempts of all strategies in all rounds."""
    return plan.rounds * sum(RoundPlan(plan, spec, 1).rows for spec in plan.strategies)


def requirements_of(plan: Plan, free: Available) -> list[Requirement]:
    """The requirements of a plan: of each resource that of the round that needs most."""
    attempts = total_attempts(plan)
    worst: dict[str, Requirement] = {}
    for spec in plan.strategies:
        for found in requirements(Needs.of(RoundPlan(plan, spec, 1), attempts), free):
            known = worst.get(found.name)
            if known is None or found.needed > known.needed:
                worst[found.name] = found
    return list(worst.values())


def check_resources(plan: Plan, free: Available) -> None:
    """Check that each round of a plan has the resources it needs.

    Raises:
        EnvironmentFault: A round needs more of a resource than is free; the message has both.
    """
    for found in requirements_of(plan, free):
        if not found.is_met:
            raise EnvironmentFault(found.message, found.hint)
