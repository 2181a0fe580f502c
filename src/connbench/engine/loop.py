"""The measured loop. `run_attempts` serves every strategy; all else in connbench prepares for it or reads its samples.

An *attempt* is what a program does to get one connection, and fills one row of the samples. It consists of one or more
*tries*: after a try that finds no free port, a strategy that draws its port or window draws again. Of each attempt the
loop records:

- `prepare_ns`: setsockopt() and bind() of the last try.
- `connect_ns`: connect() of the last try.
- `acquire_ns`: the *acquire* time, from the first call of the first try to the result of the last try. It is what a
  program waits until it has its connection. A strategy cannot hide work from it: it includes bind(), and every try.

The loop uses local variables only, does no I/O, and has nothing between the two clock reads around connect() but the
call. `_socket.socket` is the C type; its subclass in `socket` adds a constructor in Python, and no own connect().
"""

from __future__ import annotations

import errno
from _socket import SO_LINGER, SO_SNDTIMEO, SOCK_DGRAM, SOCK_STREAM, SOL_IP, SOL_SOCKET, socket
from statistics import median
from time import perf_counter_ns, sleep

from connbench.draws import MOST_DRAWS
from connbench.engine.task import ChurnTask, WorkerTask
from connbench.errors import RunFault
from connbench.linux.address_family import family_of
from connbench.linux.faults import advice_for_errno
from connbench.linux.sockopts import (
    IP_BIND_ADDRESS_NO_PORT,
    IP_LOCAL_PORT_RANGE,
    LINGER_RESET,
    ON,
    pack_timeout,
    pack_u32,
)
from connbench.model import Close, Protocol, RoundPlan
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT
from connbench.units import MS_PER_S, NS_PER_MS, NS_PER_S

TIMEOUTS_IN_A_ROW = 5
"""After as many time-outs the run ends: the listener does not answer, and N attempts would take N time-outs."""

FLOOR_CALLS = 2000
"""Calls that `measure_floor` takes the median of."""

UNUSED_PORT = 1
"""A port without a listener in connbench's own namespace, unless --target names it."""

NO_LIMIT_NS = 2**62


def run_attempts(task: WorkerTask, held: list[socket | None], churn: ChurnTask | None = None) -> int:  # noqa: C901, PLR0912, PLR0915  # hot: each call would cost 50 ns, so what is measured stays in one piece
    """Make attempts: open the connections of a task, or replace some of them.

    Args:
        task: What to open.
        held: The worker's connections in the order of its rows, with None for an attempt that failed. Filling appends
            to it; the churn replaces its elements.
        churn: What to replace; None to fill.

    Returns:
        How many attempts at the end timed out in a row.

    Raises:
        RunFault: socket() failed (EMFILE, ENFILE), or the target stopped answering. The connections are in `held`, and
            the samples in `task.columns`.
    """
    round_plan, draws, columns, client = task.plan, task.draws, task.columns, task.client
    plan, load = round_plan.plan, round_plan.strategy.load
    clock = perf_counter_ns
    started_ns, prepare_ns = columns["started_ns"], columns["prepare_ns"]
    connect_ns, acquire_ns = columns["connect_ns"], columns["acquire_ns"]
    port, error_number, tries_made = columns["port"], columns["errno"], columns["tries"]
    source_number, target_number, client_number = columns["source"], columns["target"], columns["client"]
    epoch, draw_number, path_of = task.epoch, draws.number, draws.path
    # An unanswered SYN must not block for longer than --give-up-after, either.
    timeout_s = plan.timeout if load.give_up_ms is None else min(plan.timeout, load.give_up_ms / MS_PER_S)
    timeout, no_port_free, reset = pack_timeout(timeout_s), NO_PORT_FREE, LINGER_RESET
    is_tcp = load.protocol is Protocol.TCP
    family, kind = int(family_of(plan.targets[0].host)), SOCK_STREAM if is_tcp else SOCK_DGRAM
    sources, many = round_plan.sources, len(round_plan.sources)
    targets, locals_ = [(t.host, t.port) for t in plan.targets], [(address, 0) for address in sources]
    strategy = round_plan.strategy.traits
    binds, draws_port, sets_window = strategy.chooses_source, strategy.draws_port, strategy.sets_port_range
    # UDP searches for a port in bind(), so there is no search to defer to connect().
    defers_port = strategy.defers_port and is_tcp
    option = b""
    max_tries = draws.max_tries
    limit_ns = NO_LIMIT_NS if load.give_up_ms is None else int(load.give_up_ms * NS_PER_MS)
    # Without --retries an attempt draws until it finds a free port. Once none can be free (the worker's client holds
    # all ports of the source, or an attempt has used up all tries), it draws as often as a program that cannot know
    # this would: MOST_DRAWS times.
    gives_up, most_draws = draws_port and round_plan.strategy.retries is None and churn is None, MOST_DRAWS
    free_ports, capacity = [len(plan.port_range) - held_before for held_before in task.held_before], task.capacity
    begins_at = task.rows.start
    resets = load.churn is None or load.churn.close is Close.RST
    reset_peer = task.reset_peer
    slot, timeouts = 0, churn.timeouts if churn else 0

    for index in churn.rows if churn else task.rows:
        if churn:
            if churn.interval_ns:
                sleep(max(0.0, churn.began + (index - churn.first) * churn.interval_ns - clock()) / NS_PER_S)
            replaced = draws.replaced(index, churn.filled)
            slot, path = replaced - begins_at, path_of(replaced)
            leaving, held[slot] = held[slot], None
            if leaving:
                if resets:
                    if reset_peer:
                        reset_peer(leaving)
                    leaving.setsockopt(SOL_SOCKET, SO_LINGER, reset)
                leaving.close()
        else:
            path = path_of(index)
        sock = _new_socket(family, kind, timeout, index)
        number = draw_number(index)
        source, target = path % many, targets[path // many]
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
            if gives_up and tries >= most_draws and free_ports[source] <= 0:
                break
            if finished - begun > limit_ns:
                failure = GIVEN_UP
                break
            if finished != prepared and draws_port:
                # bind() succeeded and connect() failed: a bound socket cannot be bound to another port.
                sock.close()
                sock = _new_socket(family, kind, timeout, index)
            number = draw_number(index, tries)
            tries += 1

        started_ns[index] = begun - epoch
        prepare_ns[index] = prepared - try_begun
        connect_ns[index] = finished - prepared
        acquire_ns[index] = finished - begun
        source_number[index] = source
        target_number[index] = path // many
        client_number[index] = client
        # An unanswered SYN (TIMED_OUT) is not a slow search, and keeps its own error.
        if finished - begun > limit_ns and not failure:
            if reset_peer:
                reset_peer(sock)
            failure = GIVEN_UP
            sock.setsockopt(SOL_SOCKET, SO_LINGER, reset)
        if failure:
            sock.close()
            error_number[index] = failure
            tries_made[index] = tries
            timeouts = timeouts + 1 if failure == TIMED_OUT else 0
            if timeouts == TIMEOUTS_IN_A_ROW:
                raise _no_answer(round_plan, index, timeout_s)
            if gives_up and tries == max_tries:
                free_ports[source] = 0
            if not churn:
                held.append(None)
        else:
            port[index] = sock.getsockname()[1]
            if churn:
                held[slot] = sock
            else:
                held.append(sock)
                free_ports[source] -= 1
                capacity -= 1
            tries_made[index] = tries
            timeouts = 0
            if not capacity:
                break
    return timeouts


def _new_socket(family: int, kind: int, timeout: bytes, index: int) -> socket:
    try:
        sock = socket(family, kind)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        raise RunFault(
            f"socket() failed at attempt {index + 1} with {name} ({error.strerror})",
            f"{advice_for_errno(error.errno)}; or ask for fewer with -n",
        ) from error
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeout)
    return sock


def _no_answer(plan: RoundPlan, index: int, timeout_s: float) -> RunFault:
    targets = " and ".join(map(str, plan.plan.targets))
    option = "--timeout" if timeout_s == plan.plan.timeout else "--give-up-after"
    return RunFault(
        f"{TIMEOUTS_IN_A_ROW} connect() in a row took longer than {timeout_s:g} s, the last at attempt {index + 1}",
        f"check that {targets} still accepts, or give more {option}",
    )


def warm_up(plan: RoundPlan) -> None:
    """Make a connect() that is not measured, so that the next one finds the CPU's caches warmer after a process switch.

    It connects to a port of the target's address without a listener, which refuses at once; the kernel searches for a
    local port all the same. Such a port is known only in connbench's own namespace: elsewhere this does nothing. With
    800 of 1,000 ports in use and three worker processes in turn, the median connect() takes 17 us with it and 20 us
    without it. A second call changes nothing: what remains is on the listener's side. With one process it is 13.5 us.
    """
    if plan.strategy.load.protocol is Protocol.UDP or not plan.plan.namespace.is_own:
        return
    host = plan.plan.targets[0].host
    sock = socket(int(family_of(host)), SOCK_STREAM)
    sock.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, ON)
    sock.bind((plan.sources[0], 0))
    sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)  # for the case that --target names this port
    sock.connect_ex((host, UNUSED_PORT))
    sock.close()


def measure_floor(plan: RoundPlan, connected: socket) -> int:
    """What timing a connect() costs, in ns: the median of calls that the kernel rejects at once.

    A connected TCP socket rejects them with EISCONN. A UDP socket would connect again, so a closed one is used (EBADF).

    Args:
        plan: The round.
        connected: A connected socket of it.
    """
    clock, address = perf_counter_ns, (plan.plan.targets[0].host, plan.plan.targets[0].port)
    if plan.strategy.load.protocol is Protocol.UDP:
        connected = socket(int(family_of(address[0])), SOCK_DGRAM)
        connected.close()
    costs = []
    for _ in range(FLOOR_CALLS):
        begun = clock()
        connected.connect_ex(address)
        finished = clock()
        costs.append(finished - begun)
    return int(median(costs))
