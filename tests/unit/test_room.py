"""Room for a run: refused beforehand with what it needs and what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connbench.errors import EnvironmentFault
from connbench.linux import limits
from connbench.model import Listener
from connbench.planning.room import KERNEL_BYTES, RESERVE, SPARE_DESCRIPTORS, Room, refuse_without_room

AMPLE = Room(memory=1 << 40, files=1 << 30, files_each=20_000, processes=10_000)
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("listener", "room", "short", "told"),
    [
        (
            Listener.BACKLOG,
            replace(AMPLE, memory=MILLION * KERNEL_BYTES + RESERVE),
            {"memory": 1},
            "1,000,000 connections need about 8.5 GB, and 8.5 GB are free",
        ),
        (
            Listener.EXTERNAL,
            replace(AMPLE, memory=MILLION * KERNEL_BYTES // 2 + RESERVE),
            {"memory": 1},
            "need about 4.4 GB",
        ),
        (Listener.BACKLOG, replace(AMPLE, files=MILLION), {"files": 1}, "fs.file-max leaves 999,999"),
        (Listener.ACCEPT, replace(AMPLE, files=2 * MILLION), {"files": 1}, "need 2,000,000 open files"),
        (
            Listener.BACKLOG,
            replace(AMPLE, files_each=SPARE_DESCRIPTORS + 10_000, processes=100),
            {"processes": 1},
            "need 100 processes of 10,064 files each, and 99 more may be started",
        ),
    ],
)
def test_run_fits_exactly_or_is_refused(listener: Listener, room: Room, short: dict[str, int], told: str) -> None:
    """What is needed to the last byte, file or process will do; one less is refused with both figures and a way out."""
    refuse_without_room(MILLION, listener, room)
    lacking = replace(room, **{name: getattr(room, name) - by for name, by in short.items()})
    with pytest.raises(EnvironmentFault) as refused:
        refuse_without_room(MILLION, listener, lacking)
    assert told in refused.value.message
    assert "-n" in refused.value.hint


def test_number_that_fits_is_told() -> None:
    """The way out names a number of connections that there is memory for."""
    room = replace(AMPLE, memory=RESERVE + 1000 * KERNEL_BYTES)
    with pytest.raises(EnvironmentFault) as refused:
        refuse_without_room(MILLION, Listener.BACKLOG, room)
    assert refused.value.hint == "ask for fewer: -n 1000 fits"
    refuse_without_room(1000, Listener.BACKLOG, room)


def test_closed_connections_need_room_in_a_queue_alone() -> None:
    """Nobody takes them out of a backlog listener's queue; whoever accepts, or is elsewhere, lets them go."""
    room = replace(AMPLE, memory=RESERVE + 1000 * KERNEL_BYTES + 500 * KERNEL_BYTES // 2)
    for listener in (Listener.ACCEPT, Listener.EXTERNAL, Listener.NONE):
        refuse_without_room(1000, listener, room, replaced=MILLION)
    refuse_without_room(1000, Listener.BACKLOG, room, replaced=500)
    with pytest.raises(EnvironmentFault, match="501 closed connections in the listener's queue") as refused:
        refuse_without_room(1000, Listener.BACKLOG, room, replaced=501)
    assert refused.value.hint == "--listener accept keeps no closed ones; or --churn 500 fits"


def test_room_here_is_what_the_kernel_says() -> None:
    """The machine the tests run on has some of everything, and the talk's run fits."""
    room = Room.here()
    assert room.files_each == limits.open_files()[1]
    assert min(room.memory, room.files, room.files_each, room.processes) > 0
    refuse_without_room(56512, Listener.BACKLOG, room)
