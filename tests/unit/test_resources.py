"""The memory, files and processes of a run: refused beforehand with what it needs and what is available."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connbench.errors import EnvironmentFault
from connbench.linux import limits
from connbench.linux.cgroup_limits import Remaining
from connbench.linux.limits import LIBRARY_BYTES, SPARE_DESCRIPTORS
from connbench.model import Endpoint, Listener, Load, Plan
from connbench.planner.resources import (
    ACCEPTED_BYTES,
    CHARGED_BYTES,
    COPIES,
    GROUP_RESERVE,
    HELD_BYTES,
    KERNEL_BYTES,
    LISTENING_BYTES,
    RESERVE,
    WORKER_BYTES,
    Available,
    Needs,
    Requirement,
    check_resources,
    requirements,
    requirements_of,
)
from connbench.samples import ROW_BYTES
from factories import PLAN, WINDOW

MILLION = 1_000_000
EACH = 10_000
AMPLE = Available(memory=1 << 40, files=1 << 30, files_each=EACH + SPARE_DESCRIPTORS, processes=10_000)
IN_GROUP = replace(AMPLE, group=Remaining(1 << 40, "/sys/fs/cgroup/memory.max"))
WORKERS = MILLION // EACH * WORKER_BYTES + MILLION * (HELD_BYTES + ROW_BYTES)
"""Of a million connections, with the samples of the round that runs."""


def unmet(needs: Needs, room: Available) -> Requirement | None:
    """The first requirement that fails."""
    return next((one for one in requirements(needs, room) if not one.is_met), None)


@pytest.mark.parametrize(
    ("needs", "room", "field", "just", "told"),
    [
        (
            Needs(MILLION, Listener.BACKLOG),
            AMPLE,
            "memory",
            MILLION * KERNEL_BYTES + WORKERS + RESERVE,
            "1,000,000 connections need about 8.8 GB, and 8.8 GB are free",
        ),
        (
            Needs(MILLION, Listener.EXTERNAL),
            AMPLE,
            "memory",
            MILLION * KERNEL_BYTES // 2 + WORKERS + RESERVE,
            "need about 4.7 GB",
        ),
        (
            Needs(1000, Listener.BACKLOG, attempts=MILLION),
            AMPLE,
            "memory",
            1000 * (KERNEL_BYTES + HELD_BYTES + ROW_BYTES) + WORKER_BYTES + COPIES * MILLION * ROW_BYTES + RESERVE,
            "1,000 connections and the samples of 1,000,000 attempts need about",
        ),
        (
            Needs(1000, Listener.BACKLOG, listening=5000),
            AMPLE,
            "memory",
            1000 * (KERNEL_BYTES + ROW_BYTES) + WORKER_BYTES + 6000 * HELD_BYTES + 5000 * LISTENING_BYTES + RESERVE,
            "1,000 connections and 5,000 listening sockets need about",
        ),
        (
            Needs(MILLION, Listener.BACKLOG),
            IN_GROUP,
            "group",
            MILLION * CHARGED_BYTES + WORKERS + GROUP_RESERVE,
            "and the control group leaves 5.1 GB (/sys/fs/cgroup/memory.max)",
        ),
        (
            Needs(EACH - 1, Listener.ACCEPT),
            IN_GROUP,
            "group",
            (EACH - 1) * (CHARGED_BYTES + ACCEPTED_BYTES + ROW_BYTES + 2 * HELD_BYTES)
            + 2 * WORKER_BYTES
            + GROUP_RESERVE,
            "9,999 connections need about",
        ),
        (
            Needs(MILLION, Listener.BACKLOG),
            replace(AMPLE, address_space=1 << 40),
            "address_space",
            MILLION * ROW_BYTES + EACH * HELD_BYTES + LIBRARY_BYTES,
            "and RLIMIT_AS leaves a process",
        ),
        (
            Needs(MILLION, Listener.BACKLOG),
            AMPLE,
            "files",
            MILLION + 100 * SPARE_DESCRIPTORS,
            "fs.file-max leaves 1,002,399",
        ),
        (
            Needs(MILLION, Listener.ACCEPT, listening=1),
            AMPLE,
            "files",
            2 * MILLION + 1 + 202 * SPARE_DESCRIPTORS,
            "need 2,004,849 open files",
        ),
        (
            Needs(MILLION, Listener.BACKLOG),
            AMPLE,
            "processes",
            101,
            "need 100 processes of 10,024 files each and one that starts them, and kernel.pid_max leaves 100",
        ),
        (Needs(64, Listener.BACKLOG, concurrency=64), AMPLE, "processes", 65, "64 connections need 64 processes"),
        (
            Needs(1, Listener.BACKLOG, listening=5000),
            AMPLE,
            "files_each",
            5000 + SPARE_DESCRIPTORS + 1,
            "a process needs 5,025 open files with 5,000 listening sockets, and RLIMIT_NOFILE allows 5,024",
        ),
        (
            Needs(100 * 100, Listener.BACKLOG),
            AMPLE,
            "files_each",
            100 + SPARE_DESCRIPTORS,
            (
                "10,000 connections need 102 processes of 123 files each, "
                "and the engine, which starts them, has files for 99 of them"
            ),
        ),
    ],
)
def test_run_fits_exactly_or_is_refused(needs: Needs, room: Available, field: str, just: int, told: str) -> None:
    """What is needed to the last byte, file or process suffices; one less is refused with both figures and a remedy."""

    def with_amount(amount: int) -> Available:
        changes: dict[str, Any] = {
            field: Remaining(amount, "/sys/fs/cgroup/memory.max") if field == "group" else amount
        }
        return replace(room, **changes)

    assert unmet(needs, with_amount(just)) is None
    lacking = unmet(needs, with_amount(just - 1))
    assert lacking
    assert told in lacking.message
    assert lacking.hint


@pytest.mark.parametrize("room", [AMPLE, IN_GROUP])
@pytest.mark.parametrize("rounds", [1, 3])
def test_number_that_fits_is_reported(room: Available, rounds: int) -> None:
    """The remedy names a number of connections that fit into memory, in two digits; the next does not fit."""
    needs = Needs(MILLION, Listener.BACKLOG, attempts=MILLION * rounds)
    few = 400 << 20
    room = replace(room, group=Remaining(few, room.group.limit)) if room.group else replace(room, memory=few)
    lacking = unmet(needs, room)
    assert lacking
    fits = int(lacking.hint.partition("-n ")[2].split()[0])
    assert 10_000 < fits < 70_000
    assert unmet(replace(needs, connections=fits, attempts=fits * rounds), room) is None
    assert unmet(replace(needs, connections=fits + 1000, attempts=(fits + 1000) * rounds), room)
    assert ("--rounds" in lacking.hint) == (rounds > 2)


def test_no_number_is_reported_where_none_fits() -> None:
    """Where not one connection fits, or the samples would take all the memory, no `-n` is offered."""
    scarce = replace(AMPLE, memory=RESERVE)
    for attempts, hint in ((0, "free some: not one connection fits"), (5, "ask for fewer --rounds or --strategy")):
        lacking = unmet(Needs(1, Listener.BACKLOG, attempts=attempts), scarce)
        assert lacking
        assert lacking.hint == hint


def test_closed_connections_need_room_in_a_queue_alone() -> None:
    """Nothing takes them out of a backlog listener's queue; an acceptor, or a target elsewhere, releases them."""
    open_ones = Needs(1000, Listener.BACKLOG)
    of_churn = 500 * (KERNEL_BYTES // 2 + ROW_BYTES)
    room = replace(AMPLE, memory=open_ones.memory(EACH) + of_churn)
    for listener in (Listener.EXTERNAL, Listener.NONE):
        assert unmet(replace(open_ones, listener=listener, replaced=50_000), room) is None
    assert unmet(replace(open_ones, replaced=500), room) is None
    lacking = unmet(replace(open_ones, replaced=501), room)
    assert lacking
    assert "501 closed connections in the listener's queue" in lacking.message
    assert "use --listener accept, which keeps no closed ones; or --churn " in lacking.hint


def test_a_plan_is_refused_by_its_largest_round() -> None:
    """Each thing is needed as often as in the largest round, and the samples of all rounds are counted."""
    loads = (Load(connections=100), Load(connections=50_000, concurrency=4), Load(connections=200))
    targets = tuple(Endpoint("127.9.9.2", port) for port in range(1000, 1007))
    plan: Plan = replace(PLAN, strategies=tuple(replace(WINDOW, load=load) for load in loads), rounds=2)
    plan = replace(plan, targets=targets)
    needs = Needs(50_000, Listener.BACKLOG, concurrency=4, listening=7, attempts=2 * 50_300)
    room = replace(AMPLE, processes=9)
    assert requirements_of(plan, room) == list(requirements(needs, room))
    check_resources(plan, room)
    with pytest.raises(EnvironmentFault, match="need 8 processes"):
        check_resources(plan, replace(AMPLE, processes=8))
    external = replace(plan, listener=Listener.EXTERNAL)
    assert requirements_of(external, room) == list(
        requirements(replace(needs, listener=Listener.EXTERNAL, listening=0), room)
    )


def test_room_here_is_what_the_kernel_says() -> None:
    """The machine of the tests has some of everything, and the talk's run fits."""
    room = Available.here()
    assert room.files_each == limits.open_files()[1]
    assert min(room.memory, room.files, room.files_each, room.processes) > 0
    assert unmet(Needs(56512, Listener.BACKLOG, listening=1, attempts=56512), room) is None
