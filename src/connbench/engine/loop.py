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

from _socket import SO_LINGER, SO_SNDTIMEO, SOCK_DGRAM, SOL_IP, SOL_SOCKET, socket
from array import array
from select import POLLOUT, POLLRDHUP, poll
from time import perf_counter_ns, sleep

from connbench.draws import MOST_DRAWS, Kind
from connbench.engine.in_flight import run_in_flight  # noqa: F401  # a worker finds it here, as in `_loop`
from connbench.engine.task import LONGEST_SLEEP_NS, TIMEOUTS_IN_A_ROW, ChurnTask, LoopEnd, Reason, WorkerTask
from connbench.linux.sockopts import (
    IP_BIND_ADDRESS_NO_PORT,
    IP_LOCAL_PORT_RANGE,
    LINGER_RESET,
    ON,
    pack_timeout,
    pack_u32,
)
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT
from connbench.units import NS_PER_S

FLOOR_CALLS = 500
"""Calls that `measure_floor` takes the median of. A number takes 40 bytes here; with many workers that adds up."""


def run_attempts(  # noqa: C901, PLR0911, PLR0912, PLR0915  # hot: each call would cost 50 ns, so what is measured stays in one piece
    task: WorkerTask, held: array[int], rows: range, churn: ChurnTask | None = None
) -> LoopEnd:
    """Make attempts: open the connections of a task, or replace some of them.

    Args:
        task: What to open.
        held: The descriptors of the worker's connections in the order of its rows, with -1 for an attempt that failed.
            Filling appends to it; the churn replaces its elements.
        rows: The rows of the attempts.
        churn: When to replace connections; None to fill.

    Returns:
        Why it ended. The connections are in `held`, and the samples in `task.columns`.
    """
    round_plan, draws, columns, client, stop = task.plan, task.draws, task.columns, task.client, task.stop
    clock = perf_counter_ns
    started_ns, prepare_ns = columns["started_ns"], columns["prepare_ns"]
    connect_ns, acquire_ns = columns["connect_ns"], columns["acquire_ns"]
    port, error_number, tries_made = columns["port"], columns["errno"], columns["tries"]
    source_number, target_number, client_number = columns["source"], columns["target"], columns["client"]
    epoch, draw_number, path_of = task.epoch, draws.number, draws.path
    family, kind, timeout = task.family, task.kind, pack_timeout(task.timeout)
    no_port_free, reset = NO_PORT_FREE, LINGER_RESET
    sources, many = round_plan.sources, len(round_plan.sources)
    targets, locals_ = [(t.host, t.port) for t in round_plan.plan.targets], [(address, 0) for address in sources]
    strategy = task.traits
    binds, chooses_port, binds_to_port = strategy.chooses_source, strategy.chooses_port, strategy.binds_to_port
    sets_window = strategy.sets_port_range
    defers_port, reuse_option, reset_peer = task.defers_port, task.reuse_option, task.reset_peer
    max_tries, limit_ns = draws.max_tries, task.limit_ns
    option = b""
    # Without --retries an attempt draws until it finds a free port. Once none can be free (the worker's client holds
    # all ports of the space, or an attempt has used up all tries), it draws as often as a program that cannot know
    # this would: MOST_DRAWS times.
    gives_up, most_draws = task.draws_until_free and churn is None, MOST_DRAWS
    held_ports, positions, capacity = task.held_ports, task.positions, task.capacity
    space, spaces, ports_of_space = 0, draws.spaces, draws.count
    has_list, port_at = draws.kind is Kind.SEQUENTIAL, draws.port_at
    hold, begins_at = held.append, task.rows.start
    slot, timeouts = 0, churn.timeouts if churn else 0
    if not capacity:
        return LoopEnd(Reason.CAPACITY, timeouts)

    has_one_path, path, source, target, local = draws.paths == 1, 0, 0, targets[0], locals_[0]
    client_number[rows.start : rows.stop] = array(client_number.format, [client]) * len(rows)
    for row, number in zip(rows, draws.first_numbers(rows), strict=True):
        if stop[0]:
            return LoopEnd(Reason.STOPPED, timeouts)
        if churn:
            if churn.interval_ns:
                turn = churn.began + (row - churn.first) * churn.interval_ns
                while (left := turn - clock()) > 0:
                    sleep(min(left, LONGEST_SLEEP_NS) / NS_PER_S)
                    if stop[0]:
                        return LoopEnd(Reason.STOPPED, timeouts)
            replaced = draws.replaced(row, churn.filled)
            slot, path = replaced - begins_at, path_of(replaced)
            if held[slot] >= 0:
                leaving, held[slot] = held[slot], -1
                task.leave(leaving)
        elif not has_one_path:
            path = path_of(row)
        try:
            sock = socket(family, kind)
        except OSError as error:
            return LoopEnd(Reason.NO_SOCKET, timeouts, row, error.errno or 0)
        sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeout)
        if not has_one_path:
            source, target = path % many, targets[path // many]
            local, space = locals_[source], path % spaces
        tries = 1
        begun = 0
        while True:
            if chooses_port:
                if has_list:
                    number = port_at(positions[space])  # noqa: PLW2901  # a list has no draw
                    positions[space] += 1
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
                    if reuse_option:
                        sock.setsockopt(SOL_SOCKET, reuse_option, ON)
                    sock.bind(local)
            except OSError as error:
                prepared = finished = clock()
                failure, is_bound = error.errno, False
            else:
                prepared = clock()
                failure = sock.connect_ex(target)
                finished = clock()
                is_bound = binds_to_port
            begun = begun or try_begun
            if not failure or tries >= max_tries or failure not in no_port_free:
                break
            if gives_up and tries >= most_draws and held_ports[space] >= ports_of_space:
                break
            if finished - begun > limit_ns:
                failure = GIVEN_UP
                break
            if stop[0]:  # of an attempt that may make a billion tries
                sock.close()
                return LoopEnd(Reason.STOPPED, timeouts)
            if is_bound:
                # bind() succeeded and connect() failed: a bound socket cannot be bound to another port.
                sock.close()
                try:
                    sock = socket(family, kind)
                except OSError as error:
                    return LoopEnd(Reason.NO_SOCKET, timeouts, row, error.errno or 0)
                sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeout)
            number = draw_number(row, tries)  # noqa: PLW2901  # the number of the row's first try has had its try
            tries += 1

        started_ns[row] = begun - epoch
        prepare_ns[row] = prepared - try_begun
        connect_ns[row] = finished - prepared
        acquire_ns[row] = acquired = finished - begun
        if not has_one_path:
            source_number[row] = source
            target_number[row] = path // many
        # An unanswered SYN (TIMED_OUT) is not a slow search, and keeps its own error.
        if acquired > limit_ns and not failure:
            if reset_peer:
                reset_peer(sock)
            failure = GIVEN_UP
            sock.setsockopt(SOL_SOCKET, SO_LINGER, reset)
        if failure:
            sock.close()
            error_number[row] = failure
            tries_made[row] = tries
            timeouts = timeouts + 1 if failure == TIMED_OUT else 0
            if timeouts == TIMEOUTS_IN_A_ROW:
                return LoopEnd(Reason.NO_ANSWER, timeouts, row)
            if gives_up and tries == max_tries:
                held_ports[space] = ports_of_space
            if not churn:
                hold(-1)
        else:
            port[row] = sock.getsockname()[1]
            if churn:
                held[slot] = sock.detach()
            else:
                hold(sock.detach())
                capacity -= 1
                if gives_up:
                    held_ports[space] += 1
            tries_made[row] = tries
            timeouts = 0
            if not capacity:
                return LoopEnd(Reason.CAPACITY, timeouts)
    return LoopEnd(Reason.DONE, timeouts)


def measure_floor(task: WorkerTask, descriptor: int) -> int:
    """What timing a connect() costs, in ns: the median of calls that the kernel rejects at once.

    A connected TCP socket rejects them with EISCONN. A UDP socket would connect again, so a closed one is used (EBADF).

    Args:
        task: The worker's task.
        descriptor: A connection of it.
    """
    target = task.plan.plan.targets[0]
    clock, address = perf_counter_ns, (target.host, target.port)
    if task.kind == SOCK_DGRAM:
        connected = socket(task.family, task.kind)
        connected.close()
    else:
        connected = socket(task.family, task.kind, 0, descriptor)
    costs = []
    for _ in range(FLOOR_CALLS):
        begun = clock()
        connected.connect_ex(address)
        finished = clock()
        costs.append(finished - begun)
    connected.detach()
    return sorted(costs)[FLOOR_CALLS // 2]


def count(_task: WorkerTask, held: array[int]) -> tuple[int, int]:
    """How many connections a worker holds, and how many of them are established.

    An established connection is writable, and neither reset nor closed by its peer. poll() tells it of many sockets in
    one call; to read the state of each from TCP_INFO takes twice as long.
    """
    poller = poll()
    for descriptor in held:
        if descriptor >= 0:
            poller.register(descriptor, POLLOUT | POLLRDHUP)
    found = [events for _, events in poller.poll(0)]
    return len(held) - held.count(-1), found.count(POLLOUT)


def reset_all(task: WorkerTask, held: array[int]) -> None:
    """Close every connection of a worker by a reset (RST)."""
    for descriptor in held:
        if descriptor >= 0:
            sock = socket(task.family, task.kind, 0, descriptor)
            sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)
            sock.close()
