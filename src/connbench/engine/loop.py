"""The measured loop: the only hot code of connbench. One function serves every strategy.

Locals only, no I/O, and nothing between the two clock reads around connect() but the call. `_socket.socket` is the C
type itself: its subclass in `socket` adds a constructor in Python, and no connect() of its own.
"""

from __future__ import annotations

import errno
from _socket import SO_SNDTIMEO, SOCK_STREAM, SOL_IP, SOL_SOCKET, socket
from array import array
from dataclasses import dataclass, field
from random import Random
from statistics import median
from time import perf_counter_ns

from connbench.errors import RunFault
from connbench.linux.families import family_of
from connbench.linux.sockopts import (
    IP_BIND_ADDRESS_NO_PORT,
    IP_LOCAL_PORT_RANGE,
    ON,
    pack_timeout,
    pack_u32,
)
from connbench.model import RoundPlan
from connbench.samples import NO_PORT_FREE, TIMED_OUT
from connbench.strategies import Draw, Recipe

TIMEOUTS_IN_A_ROW = 5
"""A listener this silent will not come back; go on and a run of N attempts takes N time-outs."""

FLOOR_CALLS = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a round one holder opens.

    Attributes:
        first: Index of its first attempt; it goes on to the plan's last, or until `capacity` sockets are open.
        order: The source of each attempt, as an index into the round's addresses.
        held_before: Connections that earlier holders of the round hold, by source.
        epoch: perf_counter_ns() at the beginning of the round.
        retries: Draws further tries; its state goes from holder to holder, so that their number changes no draw.
        descriptor: The samples' shared memory; `columns` is the holder's own mapping of it.
    """

    plan: RoundPlan
    recipe: Recipe
    retries: Random
    descriptor: int
    first: int
    capacity: int
    held_before: tuple[int, ...]
    order: array[int]
    epoch: int
    columns: dict[str, memoryview] = field(default_factory=dict)


def fill(share: Share, held: list[socket]) -> None:  # noqa: C901, PLR0912, PLR0915  # hot: each call would cost 50 ns, so what is measured stays in one piece
    """Open the connections of a share into `held`.

    Raises:
        RunFault: No socket() to be had any more (EMFILE, ENFILE), or the target stopped answering. What was opened
            until then is in `held`, what was measured is in the columns.
    """
    plan, recipe = share.plan.plan, share.recipe
    clock = perf_counter_ns
    started_ns, prepare_ns = share.columns["started_ns"], share.columns["prepare_ns"]
    connect_ns, acquire_ns = share.columns["connect_ns"], share.columns["acquire_ns"]
    port, error_number, tries_made, source_number = (
        share.columns["port"],
        share.columns["errno"],
        share.columns["tries"],
        share.columns["source"],
    )
    epoch, first, end = share.epoch, recipe.first, share.plan.connections
    timeout, no_port_free = pack_timeout(plan.timeout), NO_PORT_FREE
    family = int(family_of(plan.target.host))
    sources, order = share.plan.sources, share.order
    target, locals_ = (plan.target.host, plan.target.port), [(address, 0) for address in sources]
    binds, draws_port = recipe.binds, recipe.draw is Draw.PORT
    defers_port, sets_window = binds and not draws_port, recipe.draw is Draw.WINDOW
    option = b""
    max_tries, redraw = recipe.max_tries, recipe.redraw
    rng = share.retries
    # Unbounded draws end once every port of a source is ours, or after an attempt that has used up all its tries.
    gives_up = draws_port and share.plan.strategy.retries is None
    free_ports, room = [len(plan.port_range) - held_before for held_before in share.held_before], share.capacity
    timeouts = 0

    for index in range(share.first, end):
        sock = _new_socket(family, timeout, index)
        number, source = first[index], order[index]
        local = locals_[source]
        tries = 1
        begun = 0
        while True:
            if draws_port:
                local = (sources[source], number)
            elif sets_window:
                option = pack_u32(number)
            try_begun = clock()
            try:
                if defers_port:
                    sock.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, ON)
                if sets_window:
                    sock.setsockopt(SOL_IP, IP_LOCAL_PORT_RANGE, option)
                if binds:
                    sock.bind(local)
            except OSError as error:
                prepared = finished = clock()
                failure = error.errno
            else:
                prepared = clock()
                failure = sock.connect_ex(target)
                finished = clock()
            begun = begun or try_begun
            if not failure or tries >= max_tries or failure not in no_port_free:
                break
            if gives_up and free_ports[source] <= 0:
                break
            if finished != prepared and draws_port:
                # bind() gave the port and connect() could not use it: a bound socket cannot be bound again.
                sock.close()
                sock = _new_socket(family, timeout, index)
            number = redraw(rng)
            tries += 1

        started_ns[index] = begun - epoch
        prepare_ns[index] = prepared - try_begun
        connect_ns[index] = finished - prepared
        acquire_ns[index] = finished - begun
        source_number[index] = source
        if failure:
            sock.close()
            error_number[index] = failure
            tries_made[index] = tries
            timeouts = timeouts + 1 if failure == TIMED_OUT else 0
            if timeouts == TIMEOUTS_IN_A_ROW:
                raise _silent(share.plan, index)
            if gives_up and tries == max_tries:
                free_ports[source] = 0
        else:
            port[index] = sock.getsockname()[1]
            held.append(sock)
            free_ports[source] -= 1
            tries_made[index] = tries
            timeouts = 0
            room -= 1
            if not room:
                return


def _new_socket(family: int, timeout: bytes, index: int) -> socket:
    try:
        sock = socket(family, SOCK_STREAM)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        raise RunFault(
            f"socket() failed at attempt {index + 1} with {name} ({error.strerror})",
            "raise RLIMIT_NOFILE or fs.file-max, or ask for fewer with -n",
        ) from error
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeout)
    return sock


def _silent(plan: RoundPlan, index: int) -> RunFault:
    return RunFault(
        f"{TIMEOUTS_IN_A_ROW} connect() in a row ran into the time-out of {plan.plan.timeout:g} s, "
        f"the last at attempt {index + 1}",
        f"check that {plan.plan.target} still accepts, or give more --timeout",
    )


def measure_floor(connected: socket, target: tuple[str, int]) -> int:
    """The harness's own cost of timing a connect(), in ns: the median of calls that the kernel answers with EISCONN."""
    clock = perf_counter_ns
    costs = []
    for _ in range(FLOOR_CALLS):
        begun = clock()
        connected.connect_ex(target)
        finished = clock()
        costs.append(finished - begun)
    return int(median(costs))
