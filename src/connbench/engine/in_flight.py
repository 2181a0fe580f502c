"""The measured loop of `--in-flight`: sockets that do not block, and many handshakes outstanding at once.

The calls of an attempt, its draws and its further tries are those of `connbench.engine.loop`. There connect() returns
when the handshake has ended. Here it returns when it has found a port and sent the SYN, so `connect_ns` is the system
call alone. epoll(7) says when the handshake has ended:

- `handshake_ns`: from the return of connect() until the loop knows the outcome. The loop asks before each attempt, and
  sleeps in epoll_wait() where it may begin none.
- `acquire_ns`: from the first call of the first try until the loop knows the outcome.

A try that finds no free port fails in the call, and the next one follows there. A handshake that fails is not tried
again. The handshakes end in any order, and `tries`, which finishes a row, is written when the row's handshake ends.
"""

from __future__ import annotations

from _socket import SO_ERROR, SO_LINGER, SOCK_NONBLOCK, SOL_IP, SOL_SOCKET, socket
from array import array
from collections import OrderedDict
from errno import EINPROGRESS
from select import EPOLLERR, EPOLLHUP, EPOLLOUT, epoll
from time import perf_counter_ns, sleep
from typing import NamedTuple

from connbench.draws import MOST_DRAWS, Kind
from connbench.engine.task import LONGEST_SLEEP_NS, TIMEOUTS_IN_A_ROW, ChurnTask, LoopEnd, Reason, WorkerTask
from connbench.linux.sockopts import IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE, LINGER_RESET, ON, pack_u32
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT
from connbench.units import NS_PER_MS, NS_PER_S

NONE, OUTSTANDING = -1, -2
"""What a worker has in place of a descriptor: no connection, or one whose handshake is outstanding."""

MOST_EVENTS = 256
"""Outcomes that the loop takes from the kernel at once."""


class Handshake(NamedTuple):
    """An attempt after its connect().

    Attributes:
        sock: Its socket.
        row: Its row.
        slot: The place of its connection among the worker's descriptors.
        space: Its port space.
        tries: Its tries.
        sent: perf_counter_ns() when connect() returned.
    """

    sock: socket
    row: int
    slot: int
    space: int
    tries: int
    sent: int


def run_in_flight(  # noqa: C901, PLR0912, PLR0915  # as run_attempts
    task: WorkerTask, held: array[int], rows: range, churn: ChurnTask | None = None
) -> LoopEnd:
    """Make attempts with sockets that do not block; returns once no handshake is outstanding.

    A replacement waits for the handshake of the connection that it replaces. Once the stop flag is set, or the target
    does not answer, the loop closes the sockets of the outstanding handshakes, and their rows stay unfinished.

    A time-out counts as one of TIMEOUTS_IN_A_ROW only if no handshake has ended since its SYN was sent: the SYNs that
    a busy target drops lie close together, and time out together, too.

    Args:
        task: What to open.
        held: The descriptors of the worker's connections in the order of its rows, with NONE for an attempt that
            failed. Filling appends to it; the churn replaces its elements.
        rows: The rows of the attempts.
        churn: When to replace connections; None to fill.

    Returns:
        Why it ended. The connections are in `held`, and the samples in `task.columns`.
    """
    round_plan, draws, columns, client, stop = task.plan, task.draws, task.columns, task.client, task.stop
    clock = perf_counter_ns
    started_ns, prepare_ns = columns["started_ns"], columns["prepare_ns"]
    connect_ns, acquire_ns, handshake_ns = columns["connect_ns"], columns["acquire_ns"], columns["handshake_ns"]
    port, error_number, tries_made = columns["port"], columns["errno"], columns["tries"]
    source_number, target_number, client_number = columns["source"], columns["target"], columns["client"]
    epoch, draw_number, path_of = task.epoch, draws.number, draws.path
    family, kind, timeout_ns = task.family, task.kind | SOCK_NONBLOCK, int(task.timeout * NS_PER_S)
    no_port_free, reset = NO_PORT_FREE, LINGER_RESET
    sources, many = round_plan.sources, len(round_plan.sources)
    targets, locals_ = [(t.host, t.port) for t in round_plan.plan.targets], [(address, 0) for address in sources]
    strategy = task.traits
    binds, chooses_port, binds_to_port = strategy.chooses_source, strategy.chooses_port, strategy.binds_to_port
    sets_window = strategy.sets_port_range
    defers_port, reuse_option, reset_peer = task.defers_port, task.reuse_option, task.reset_peer
    max_tries, limit_ns = draws.max_tries, task.limit_ns
    option = b""
    gives_up, most_draws = task.draws_until_free and churn is None, MOST_DRAWS
    held_ports, positions, capacity = task.held_ports, task.positions, task.capacity
    space, spaces, ports_of_space = 0, draws.spaces, draws.count
    has_list, port_at = draws.kind is Kind.SEQUENTIAL, draws.port_at
    begins_at = task.rows.start
    timeouts, last_timeout, answered = churn.timeouts if churn else 0, 0, 0
    most = round_plan.strategy.load.in_flight or 1
    outstanding, poller = OrderedDict[int, Handshake](), epoll()

    def goes_on() -> bool:
        return not stop[0] and timeouts < TIMEOUTS_IN_A_ROW

    def finish(ended: Handshake, failure: int, now: int) -> None:
        """Finish an attempt whose outcome is known at `now`."""
        nonlocal capacity
        row, sock = ended.row, ended.sock
        acquired = now - epoch - started_ns[row]
        handshake_ns[row] = now - ended.sent
        acquire_ns[row] = acquired
        if acquired > limit_ns and not failure:
            if reset_peer:
                reset_peer(sock)
            failure = GIVEN_UP
            sock.setsockopt(SOL_SOCKET, SO_LINGER, reset)
        if failure:
            sock.close()
            error_number[row] = failure
            held[ended.slot] = NONE
            held_ports[ended.space] -= 1
        else:
            port[row] = sock.getsockname()[1]
            held[ended.slot] = sock.detach()
            if not churn:
                capacity -= 1
        tries_made[row] = ended.tries

    def collect(wait_ns: float = 0.0) -> None:
        """Finish the attempts whose handshakes have ended or timed out; wait for the first of them for a while."""
        nonlocal timeouts, last_timeout, answered
        if not outstanding:
            return
        oldest = next(iter(outstanding.values()))
        left = min(wait_ns, oldest.sent + timeout_ns - clock()) if wait_ns else 0.0
        events = poller.poll(max(0.0, left) / NS_PER_S, MOST_EVENTS)
        now = clock()
        for descriptor, event in events:
            ended = outstanding.pop(descriptor)
            poller.unregister(descriptor)
            timeouts, answered = 0, now
            has_failed = event & (EPOLLERR | EPOLLHUP)
            finish(ended, ended.sock.getsockopt(SOL_SOCKET, SO_ERROR) if has_failed else 0, now)
        while outstanding and timeouts < TIMEOUTS_IN_A_ROW:
            descriptor, oldest = next(iter(outstanding.items()))
            if now - oldest.sent < timeout_ns:
                break
            del outstanding[descriptor]
            poller.unregister(descriptor)
            timeouts, last_timeout = timeouts + (oldest.sent >= answered), oldest.row
            finish(oldest, TIMED_OUT, now)

    end = LoopEnd(Reason.DONE, 0)
    for row, number in zip(rows, draws.first_numbers(rows), strict=True):
        collect()
        while len(outstanding) >= min(most, capacity) > 0 and goes_on():
            collect(LONGEST_SLEEP_NS)
        if not capacity:
            end = LoopEnd(Reason.CAPACITY, 0)
            break
        if churn:
            turn = churn.began + (row - churn.first) * churn.interval_ns
            while churn.interval_ns and (left := turn - clock()) > 0 and goes_on():
                if outstanding and left >= NS_PER_MS:  # epoll counts in ms
                    collect(min(left, LONGEST_SLEEP_NS) // NS_PER_MS * NS_PER_MS)
                else:
                    sleep(min(left, LONGEST_SLEEP_NS) / NS_PER_S)
            replaced = draws.replaced(row, churn.filled)
            slot, path = replaced - begins_at, path_of(replaced)
            while held[slot] == OUTSTANDING and goes_on():
                collect(LONGEST_SLEEP_NS)
        else:
            slot, path = len(held), path_of(row)
        if not goes_on():
            break
        if churn and held[slot] != NONE:
            leaving, held[slot] = held[slot], NONE
            task.leave(leaving)
        try:
            sock = socket(family, kind)
        except OSError as error:
            end = LoopEnd(Reason.NO_SOCKET, 0, row, error.errno or 0)
            break
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
                failure, is_bound = error.errno or 0, False
            else:
                prepared = clock()
                failure = sock.connect_ex(target)
                finished = clock()
                is_bound = binds_to_port
            begun = begun or try_begun
            if tries >= max_tries or failure not in no_port_free:
                break
            if gives_up and tries >= most_draws and held_ports[space] >= ports_of_space:
                break
            if finished - begun > limit_ns:
                failure = GIVEN_UP
                break
            if stop[0]:  # of an attempt that may make a billion tries
                sock.close()
                end = LoopEnd(Reason.STOPPED, 0)
                break
            if is_bound:
                # bind() succeeded and connect() failed: a bound socket cannot be bound to another port.
                sock.close()
                try:
                    sock = socket(family, kind)
                except OSError as error:
                    end = LoopEnd(Reason.NO_SOCKET, 0, row, error.errno or 0)
                    break
            number = draw_number(row, tries)  # noqa: PLW2901  # the number of the row's first try has had its try
            tries += 1
        if end.reason is not Reason.DONE:
            break

        started_ns[row] = begun - epoch
        prepare_ns[row] = prepared - try_begun
        connect_ns[row] = finished - prepared
        source_number[row] = source
        target_number[row] = path // many
        client_number[row] = client
        held_ports[space] += 1
        if churn:
            held[slot] = OUTSTANDING
        else:
            held.append(OUTSTANDING)
        begun_one = Handshake(sock, row, slot, space, tries, finished)
        if failure == EINPROGRESS:
            try:
                poller.register(sock.fileno(), EPOLLOUT)
            except OSError as error:  # no memory for that: ENOMEM, or ENOSPC by fs.epoll.max_user_watches
                finish(begun_one, error.errno or 0, finished)
            else:
                outstanding[sock.fileno()] = begun_one
        else:
            finish(begun_one, failure, finished)
            if failure and gives_up and tries == max_tries:
                held_ports[space] = ports_of_space

    while outstanding and goes_on():
        collect(LONGEST_SLEEP_NS)
    if timeouts >= TIMEOUTS_IN_A_ROW:
        end = LoopEnd(Reason.NO_ANSWER, 0, last_timeout)
    elif stop[0] and end.reason is Reason.DONE:
        end = LoopEnd(Reason.STOPPED, 0)
    for left_over in outstanding.values():
        held[left_over.slot] = NONE
        left_over.sock.setsockopt(SOL_SOCKET, SO_LINGER, reset)
        left_over.sock.close()
    poller.close()
    return LoopEnd(end.reason, timeouts, end.row, end.errno)
