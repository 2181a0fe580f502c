"""Whether this machine, control group and user have room for a round, asked before anything of it is started.

`connbench doctor` shows the same requirements that a run is refused by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup, limits
from connbench.linux.cgroup import Remaining
from connbench.linux.limits import LIBRARY_BYTES, SPARE_DESCRIPTORS, UNLIMITED
from connbench.model import Listener, Plan, RoundPlan
from connbench.samples import ROW_BYTES
from connbench.units import memory

KERNEL_BYTES = 8 << 10
"""Slab memory of a connection with both ends on this machine: 7.8 GB were seen for a million, and some to spare."""

CHARGED_BYTES = 4608
"""What a control group is charged for a connecting socket: 4.0 kB were seen on Linux 6.18, of TCP, and 2.8 kB of UDP.

The other end of a connection that nobody has accepted is made in a softirq, and charged to no group.
"""

ACCEPTED_BYTES = 2048
"""What accept() adds to that charge: 1.4 kB were seen."""

LISTENING_BYTES = 5 << 10
"""Slab memory of a socket that listens: 4.1 kB were seen."""

WORKER_BYTES = 2560 << 10
"""Memory that each further process has for itself: 1.9 MB were seen in it, and 2.2 MB charged to its group."""

HELD_BYTES = 256
"""Memory of a worker for each socket it holds: 150 to 250 bytes were seen."""

COPIES = 3
"""How often all samples are in memory while a result file is written."""

RESERVE = 256 << 20
"""Bytes of the machine's memory left to everything else, connbench's own main process included."""

GROUP_RESERVE = 96 << 20
"""Bytes of a control group's memory for the main process and the engine: a small run's peak is 85 MB."""


@dataclass(frozen=True, slots=True)
class Room:
    """What this machine and user have left.

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
        """As the kernel tells it now."""
        processes, by = limits.processes_left()
        return cls(
            limits.machine_memory(),
            limits.free_files(),
            limits.open_files()[1],
            processes,
            by,
            cgroup.memory_left(),
            limits.free_address_space(),
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """What a round takes.

    Attributes:
        connections: How many are open at once.
        listener: Who holds the other ends; a backlog listener keeps those of closed connections, too.
        replaced: How many are closed and opened again meanwhile.
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
        """Those of a round; `attempts` are those of its whole plan, from `total_attempts`."""
        plan = planned.plan
        return cls(
            min(planned.connections, planned.capacity),  # an attempt without a port leaves nothing open
            plan.listener,
            planned.replacements,
            planned.strategy.load.concurrency,
            len(plan.targets) if planned.is_listener_ours else 0,
            attempts,
        )

    @property
    def sockets(self) -> int:
        """Open files of all processes; nobody has one for the far end of a connection that is not accepted."""
        return self.connections * (2 if self.listener is Listener.ACCEPT else 1) + self.listening

    def workers(self, each: int) -> int:
        """Processes that hold connections, of which each has room for so many sockets."""
        of_client = -(-self.connections // self.concurrency)
        workers = self.concurrency * -(-of_client // each)
        return workers + (self.connections // each + 1 if self.listener is Listener.ACCEPT else 0)

    @property
    def samples(self) -> int:
        """Bytes of the samples: those of this round in shared memory, and those of all while they are saved."""
        return ROW_BYTES * (self.connections + self.replaced + COPIES * self.attempts)

    def queued(self) -> int:
        """Bytes of slab memory of the closed connections in a listener's queue."""
        return self.replaced * KERNEL_BYTES // 2 if self.listener is Listener.BACKLOG else 0

    def memory(self, each: int) -> int:
        """Bytes of the machine's memory, without `queued`; a worker has room for `each` sockets."""
        ends = 1 if self.listener in {Listener.EXTERNAL, Listener.NONE} else 2
        return self.connections * KERNEL_BYTES * ends // 2 + self._own(each) + RESERVE

    def charged(self, each: int) -> int:
        """Bytes that the control group of this process is charged."""
        accepted = ACCEPTED_BYTES if self.listener is Listener.ACCEPT else 0
        return self.connections * (CHARGED_BYTES + accepted) + self._own(each) + GROUP_RESERVE

    def _own(self, each: int) -> int:
        """Of processes and samples, and of the sockets that listen."""
        held = HELD_BYTES * self.sockets
        return self.workers(each) * WORKER_BYTES + held + self.listening * LISTENING_BYTES + self.samples


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a round takes of one thing, and what there is.

    Attributes:
        name: What of.
        needed: How much it takes.
        free: How much there is.
        message: Both in words.
        hint: The way out where it is too little.
    """

    name: str
    needed: int
    free: int
    message: str
    hint: str = ""

    @property
    def is_met(self) -> bool:
        """Whether there is enough."""
        return self.needed <= self.free


def requirements(needs: Needs, room: Room) -> Iterator[Requirement]:
    """What a round takes, one after the other; those that follow from one that is not met are left out."""
    each = room.files_each - SPARE_DESCRIPTORS - needs.listening
    connections = f"{needs.connections:,} connection{'s' if needs.connections > 1 else ''}"
    listening = f" and {needs.listening:,} listening sockets" if needs.listening > 1 else ""
    one = Requirement(
        "files of a process",
        needs.listening + SPARE_DESCRIPTORS + 1,
        room.files_each,
        f"a process needs {needs.listening + SPARE_DESCRIPTORS + 1:,} open files"
        + (f" with {needs.listening:,} listening sockets" if listening else "")
        + f", and RLIMIT_NOFILE allows {room.files_each:,}",
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
        room.files,
        f"{connections}{listening} need {needs.sockets + workers * SPARE_DESCRIPTORS:,} open files, "
        f"and fs.file-max {_leaves(room.files)}",
        f"raise it: sysctl fs.file-max={needs.sockets * 2 + workers * SPARE_DESCRIPTORS}, "
        "or ask for fewer with -n or --fill",
    )
    of_files = f"{workers:,} process{'es' if workers > 1 else ''} of {room.files_each:,} files each"
    yield Requirement(
        "processes that one can follow",
        workers,
        each,
        f"{connections} need {of_files}, and the one that starts them has files for {each:,} of them",
        "as root raise RLIMIT_NOFILE: ulimit -Hn 20000; or ask for fewer with -n or --fill",
    )
    yield Requirement(
        "processes",
        workers + 1,  # the engine
        room.processes,
        f"{connections} need {of_files} and one that starts them, and {room.processes_by} leaves {room.processes:,}",
        f"raise RLIMIT_NOFILE or {room.processes_by}, or ask for fewer with -n or --fill",
    )
    samples = f" and the samples of {needs.attempts:,} attempts" if needs.attempts > needs.connections else ""
    yield from _of_memory(needs, room, each, connections + listening + samples)


def _of_memory(needs: Needs, room: Room, each: int, what: str) -> Iterator[Requirement]:
    needed = needs.memory(each)
    yield Requirement(
        "memory",
        needed,
        room.memory,
        f"{what} need about {memory(needed)}, and {memory(room.memory)} are free",
        _fewer(needs, lambda fewer: fewer.memory(each) <= room.memory),
    )
    queued = needs.queued()
    if queued:
        fits = max(0, room.memory - needed) * 2 // KERNEL_BYTES
        yield Requirement(
            "memory of the queue",
            needed + queued,
            room.memory,
            f"{needs.replaced:,} closed connections in the listener's queue, and {needs.connections:,} open ones, "
            f"need about {memory(needed + queued)}, and {memory(room.memory)} are free",
            f"--listener accept keeps no closed ones; or --churn {fits} fits",
        )
    if room.group:
        charged = needs.charged(each)
        yield Requirement(
            "memory of the control group",
            charged,
            room.group.amount,
            f"{what} need about {memory(charged)}, and the control group leaves {memory(room.group.amount)} "
            f"({room.group.limit})",
            "raise that limit, or "
            + _fewer(needs, lambda fewer: room.group is not None and fewer.charged(each) <= room.group.amount),
        )
    if room.address_space < UNLIMITED:
        mapped = needs.samples + HELD_BYTES * min(each, needs.connections) + LIBRARY_BYTES
        yield Requirement(
            "address space",
            mapped,
            room.address_space,
            f"{what} need about {memory(mapped)} of address space, "
            f"and RLIMIT_AS leaves a process {memory(room.address_space)}",
            "raise it (ulimit -v unlimited), or ask for fewer with -n or --rounds",
        )


def _fewer(needs: Needs, fits: Callable[[Needs], bool]) -> str:
    """The way out where memory is too little: the largest number of connections that fits, of all rounds."""
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
    """Attempts of all strategies in all rounds."""
    return plan.rounds * sum(RoundPlan(plan, spec, 1).rows for spec in plan.strategies)


def requirements_of(plan: Plan, room: Room) -> list[Requirement]:
    """What the rounds of a plan take, of each thing the most that one round takes."""
    attempts = total_attempts(plan)
    worst: dict[str, Requirement] = {}
    for spec in plan.strategies:
        for found in requirements(Needs.of(RoundPlan(plan, spec, 1), attempts), room):
            known = worst.get(found.name)
            if known is None or found.needed > known.needed:
                worst[found.name] = found
    return list(worst.values())


def refuse_without_room(plan: Plan, room: Room) -> None:
    """Make sure that each round of a plan has what it takes.

    Raises:
        EnvironmentFault: It has not, with what it needs and what there is.
    """
    for found in requirements_of(plan, room):
        if not found.is_met:
            raise EnvironmentFault(found.message, found.hint)
