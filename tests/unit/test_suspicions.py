"""What inspect suspects: early bind, against simulated searches of the kernel; listeners in the range; TIME_WAIT."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.findings import Severity
from connbench.inspect import early_bind, suspicions
from connbench.inspect.early_bind import STRETCH
from connbench.inspect.port_usage import usage
from connbench.inspect.snapshot import Process, Settings, Snapshot
from connbench.inspect.sockets import Sockets, State
from connbench.inspect.suspicions import EARLY_BIND, find_suspicions
from connbench.model import PortRange, parse_ports
from connbench.model.time_wait import TimeWait

RANGE = PortRange(32768, 60999)
SOURCE, TARGET = 0x0A000005, 0x0A010000
SEEDS, FEW_SEEDS = range(40), range(10)

Ports = npt.NDArray[np.int64]
Draw = np.random.Generator
Host = Callable[[Draw], Sequence[Ports]]


def snapshot_of(paths: Sequence[Ports], ports: PortRange = RANGE, sources: Sequence[int] = ()) -> Snapshot:
    """Established TCP connections, each path with these local ports to a target of its own."""
    number = [len(its) for its in paths]
    local, remote = np.zeros((sum(number), 2), np.uint64), np.zeros((sum(number), 2), np.uint64)
    local[:, 1] = SOURCE + np.repeat(np.array(sources or [0] * len(paths)), number)
    remote[:, 1] = TARGET + np.repeat(np.arange(len(paths)), number)
    return Snapshot(
        Sockets.of(
            protocol=np.full(sum(number), 6),
            family=np.full(sum(number), 4),
            state=np.full(sum(number), State.ESTABLISHED),
            local=local,
            remote=remote,
            local_port=np.concatenate(paths),
            remote_port=np.full(sum(number), 443),
        ),
        Settings(ports),
    )


def plain(draw: Draw, number: int, *, random_steps: bool = True) -> Ports:
    """The even ports that connect() chooses for a path, one search after the other (`__inet_hash_connect`).

    Each search begins where the last one ended, and a random number of 0 to 7 steps on, since Linux 5.19.
    """
    size = len(RANGE) // 2
    steps = draw.integers(8, size=number) + 1 if random_steps else np.ones(number, np.int64)
    return RANGE.low + 2 * np.unique((draw.integers(size) + np.cumsum(steps)) % size)


def early(draw: Draw, *numbers: int) -> list[Ports]:
    """The ports that bind() chooses for sockets of several paths: odd ones, one after the other at random."""
    ports = RANGE.low + 1 + 2 * draw.permutation(len(RANGE) // 2)[: sum(numbers)]
    return np.split(ports, np.cumsum(numbers)[:-1])


def windows(draw: Draw, number: int) -> Ports:
    """Ports of random windows, of either parity."""
    return draw.permutation(np.arange(RANGE.low, RANGE.high + 1))[:number]


def whole_range(draw: Draw, number: int) -> Ports:
    """The ports of IP_LOCAL_PORT_RANGE over the whole range: steps of one, since Linux 6.8."""
    return RANGE.low + np.unique(
        (draw.integers(len(RANGE)) + np.cumsum(draw.integers(8, size=number) + 1)) % len(RANGE)
    )


def one_apart(draw: Draw) -> list[Ports]:
    """Two paths that share ports, and one that has none of them."""
    own, others = np.split(windows(draw, 10_000), [800])
    return [own, draw.permutation(others)[:3000], draw.permutation(others)[:3000]]


def alarms(host: Host, seeds: Sequence[int] = SEEDS) -> int:
    """With how many seeds something is suspected."""
    found = [find_suspicions([usage(snapshot_of(host(np.random.default_rng(seed))))]) for seed in seeds]
    return sum(any(one.code == EARLY_BIND for one in one_of) for one_of in found)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(lambda draw: [plain(draw, 1000) for _ in range(2)], id="two large paths, often apart"),
        pytest.param(lambda draw: [plain(draw, 300) for _ in range(4)], id="four paths"),
        pytest.param(lambda draw: [plain(draw, 20) for _ in range(60)], id="many small paths"),
        pytest.param(lambda draw: [plain(draw, 1) for _ in range(300)], id="one connection each"),
        pytest.param(lambda draw: [plain(draw, 300, random_steps=False) for _ in range(3)], id="an older kernel"),
        pytest.param(
            lambda draw: [plain(draw, 4000, random_steps=False)[::2] for _ in range(2)], id="every second port"
        ),
        pytest.param(
            lambda draw: [draw.permutation(plain(draw, 1500))[:150] for _ in range(3)], id="the rest of a churn"
        ),
        pytest.param(lambda draw: [windows(draw, 200) for _ in range(3)], id="windows"),
        pytest.param(lambda draw: [whole_range(draw, 500) for _ in range(3)], id="the whole range"),
        pytest.param(lambda draw: [plain(draw, 14000), plain(draw, 100)], id="one path nearly full"),
    ],
)
def test_connect_raises_no_alarm(host: Host) -> None:
    """Ports that connect() chose, for each path on its own: no seed is suspicious."""
    assert alarms(host) == 0


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(lambda draw: early(draw, 600, 600), id="two paths"),
        pytest.param(lambda draw: early(draw, *[25] * 40), id="many small paths"),
        pytest.param(
            lambda draw: np.split(windows(draw, 1600), 2), id="both parities, as with SO_REUSEADDR or drawn ports"
        ),
        pytest.param(lambda draw: [*early(draw, 500, 700), *(plain(draw, 1500) for _ in range(3))], id="beside plain"),
        pytest.param(one_apart, id="one of several, of both parities"),
    ],
)
def test_early_bind_is_found(host: Host) -> None:
    """Ports that bind() took for every target are found with every seed."""
    assert alarms(host, FEW_SEEDS) == len(FEW_SEEDS)


def test_large_paths_of_connect_are_often_apart() -> None:
    """The first case above is no easy one: with many seeds the two paths share nothing, and uniform ports share 71."""
    apart = [
        seed
        for seed in SEEDS
        for draw in [np.random.default_rng(seed)]
        if not {*plain(draw, 1000)} & {*plain(draw, 1000)}
    ]
    assert len(apart) > 5


def test_period_is_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the test of one turn for all stretches, paths of an older kernel with every second port raise alarms."""
    monkeypatch.setattr(early_bind, "PERIODIC", 1)
    assert alarms(lambda draw: [plain(draw, 4000, random_steps=False)[::2] for _ in range(2)]) > 0


SMALL = PortRange(40000, 40000 + 4 * STRETCH - 1)
"""Two stretches of each parity."""


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=len(SMALL), max_size=len(SMALL)))
def test_probability_is_that_of_all_turns(owners: list[int]) -> None:
    """Up to three paths without a shared port: what is computed is the share of turns, counted one by one."""
    paths = [np.flatnonzero(np.array(owners) == owner) + SMALL.low for owner in (1, 2, 3)]
    paths = [path for path in paths if len(path)]
    if sum(map(len, paths)) < early_bind.FEWEST_PORTS or len(paths) < 2:
        return
    used = usage(snapshot_of(paths, SMALL))
    ports = early_bind.ports_of(used)
    turned = early_bind._turn(ports, early_bind._places(used))  # noqa: SLF001  # the law is about the computation
    logs, expected = 0.0, 0.0
    for parity in (0, 1):
        for stretch in range(2):
            ends = SMALL.low + parity + stretch * 2 * STRETCH
            stretches = [
                {(port - ends) // 2 for port in its if port in range(ends, ends + 2 * STRETCH, 2)}
                for its in (set(ports.port[ports.path == path].tolist()) for path in np.unique(ports.path))
            ]
            for number, own in enumerate(stretches):
                before = set().union(*stretches[:number])
                free = sum(not {(one + turn) % STRETCH for one in own} & before for turn in range(STRETCH))
                logs += math.log(free / STRETCH)
                expected += len(own) * len(before) / STRETCH
    assert turned.log_apart.sum() == pytest.approx(logs)
    assert turned.expected.sum() == pytest.approx(expected)


def test_shared_port_ends_the_suspicion() -> None:
    """Paths that share a single port do not all bind early; what is left, the parity, is a note."""
    first, second = early(np.random.default_rng(2), 900, 900)
    assert [one.severity for one in find_suspicions([usage(snapshot_of([first, second]))])] == [Severity.WARNING]
    shared = usage(snapshot_of([first, np.append(second, first[0])]))
    assert [one.severity for one in find_suspicions([shared])] == [Severity.NOTE]


def test_other_source_and_other_protocol_are_no_sign() -> None:
    """Two sources have ports of their own: the parity is left. UDP shares no port of a source, whoever chose it."""
    paths = early(np.random.default_rng(1), 900, 900)
    assert {one.severity for one in find_suspicions([usage(snapshot_of(paths, sources=(0, 1)))])} == {Severity.NOTE}
    snapshot = snapshot_of(paths)
    snapshot.sockets.protocol[:] = 17
    assert find_suspicions([usage(snapshot)]) == []


def test_finding_says_what_is_taken_and_how_to_check() -> None:
    """It has the ports, what chance would give, the parity, the estimate for others, and a command with the process."""
    snapshot = snapshot_of(early(np.random.default_rng(1), 900, 900))
    snapshot.sockets.inode[:] = 7
    snapshot = Snapshot(
        snapshot.sockets, snapshot.settings, processes={7: (Process(4711, "envoy", "/system.slice/envoy.service"),)}
    )
    [found] = find_suspicions([usage(snapshot)])
    assert (found.code, found.severity) == (EARLY_BIND, Severity.WARNING)
    assert found.message == (
        "a program seems to take its ports by bind(), for every target: 2 paths of 10.0.0.5 share none of their 1,800"
        " ports, where chance gives about 56 (probability below 1 in 1,000,000), and 100% of them are odd, which bind()"
        " takes first; no other connection from 10.0.0.5 can have these 1,800 of 28,232 ports"
    )
    assert "look at the calls of envoy: strace -f -e trace=network -p 4711 2>&1 | grep" in found.advice
    assert "connbench advise --today early" in found.advice


@pytest.mark.parametrize(
    ("paths", "is_found"),
    [
        ([np.arange(32769, 32769 + 200, 2)], True),
        ([np.arange(32769, 32769 + 2 * early_bind.FEWEST_OF_PARITY, 2)], True),
        ([np.arange(32769, 32769 + 2 * early_bind.FEWEST_OF_PARITY - 2, 2)], False),
        ([np.arange(32769 + at, 32769 + at + 20, 2) for at in range(0, 200, 20)], True),
        ([np.arange(32768, 32768 + 400, 2)], False),
        ([np.arange(32768, 32768 + 400)], False),
        ([np.append(np.arange(32769, 60999, 2), np.arange(32768, 34000, 2))], False),
    ],
    ids=["odd", "just enough", "too few", "ten small paths", "even", "both", "all of them odd and some even"],
)
def test_parity_alone_is_a_note(paths: list[Ports], *, is_found: bool) -> None:
    """Odd ports, where even ones are free, are bind()'s; together the paths of a source, if each has few."""
    found = [one for one in find_suspicions([usage(snapshot_of(paths))]) if one.code == EARLY_BIND]
    assert [one.severity for one in found] == [Severity.NOTE] * is_found


def test_path_among_others_is_named() -> None:
    """One path alone has ports of its own, and the others share theirs."""
    [found] = find_suspicions([usage(snapshot_of(one_apart(np.random.default_rng(1))))])
    assert (
        "10.0.0.5 -> 10.1.0.0:443 shares none of its 800 ports with the 2 other paths of 10.0.0.5, wh" in found.message
    )
    assert "odd" not in found.message


def test_parity_is_counted_from_the_lowest_port() -> None:
    """In a range that begins with an odd port bind() takes the even ones first."""
    [note] = find_suspicions([usage(snapshot_of([np.arange(40002, 40202, 2)], PortRange(40001, 44000)))])
    assert note.message == (
        "100 of the 100 ports of 10.0.0.5 -> 10.1.0.0:443 are even, although 2,000 odd ones are free: bind() takes even"
        " ports first, and connect() odd ones"
    )


def alone(*rows: tuple[str, int, State], reserved: str = "", origin: str = "", namespace: str = "") -> list[list[str]]:
    """What is found of sockets without a peer, by address, port and state: code, message and advice."""
    sockets = Sockets.of(
        protocol=[6] * len(rows),
        family=[4] * len(rows),
        state=[state for _, _, state in rows],
        local=np.array([(0, int.from_bytes(bytes(map(int, text.split("."))))) for text, _, _ in rows], np.uint64),
        remote=np.zeros((len(rows), 2), np.uint64),
        local_port=[port for _, port, _ in rows],
        remote_port=[0] * len(rows),
        inode=[7] + [0] * (len(rows) - 1),
    )
    where = Settings(PortRange(40000, 40999), parse_ports(reserved))
    processes = {7: (Process(5, "nginx", ""), Process(6, "nginx", ""), Process(7, "helper", ""))}
    snapshot = Snapshot(sockets, where, origin=origin, namespace=namespace, processes=processes)
    return [[one.code, one.message, one.advice] for one in find_suspicions([usage(snapshot)])]


def test_listener_in_the_range_is_named_with_the_line_that_reserves_it() -> None:
    """The present value is kept and merged; ports outside and reserved ones are not named."""
    assert alone(
        ("10.0.0.1", 40100, State.LISTEN),
        ("10.0.0.2", 40100, State.LISTEN),
        ("10.0.0.1", 40101, State.LISTEN),
        ("10.0.0.1", 443, State.LISTEN),
        ("10.0.0.1", 40300, State.LISTEN),
        reserved="8080,40102-40110,40300",
    ) == [
        [
            "listener-in-range",
            (
                "listeners have 2 ports of the range 40000-40999, not reserved: 10.0.0.1:40100 (nginx, helper),"
                " 10.0.0.2:40100 and 10.0.0.1:40101; while such a program restarts, connect() can take its port"
            ),
            (
                "reserve those that have to stay the same: sysctl -w"
                " net.ipv4.ip_local_reserved_ports=8080,40100-40110,40300"
            ),
        ]
    ]


def test_file_does_not_say_what_is_reserved() -> None:
    """There the line would overwrite what is not known: the advice names the ports alone. And a namespace is named."""
    rows = [("10.0.0.1", 40100, State.LISTEN)]
    [[_, _, of_file]] = alone(*rows, origin="ss.txt")
    [[_, message, of_namespace]] = alone(*rows, namespace="blue")
    assert of_file == "reserve it: add 40100 to net.ipv4.ip_local_reserved_ports"
    assert message.startswith("blue: a listener has a port of the range")
    assert of_namespace.startswith("reserve it, in the namespace blue: sysctl -w net.ipv4")


def test_many_listeners_are_counted_and_the_line_has_all() -> None:
    """Ten are named, as ports ascend."""
    [[_, message, advice]] = alone(*(("10.0.0.1", port, State.LISTEN) for port in range(40050, 40000, -2)))
    assert message.count("10.0.0.1:") == suspicions.MOST_NAMED
    assert "10.0.0.1:40002, 10.0.0.1:40004," in message
    assert "and 15 more; while" in message
    assert advice.endswith("=" + ",".join(map(str, range(40002, 40051, 2))))


def test_socket_that_is_bound_and_no_more_is_a_note() -> None:
    """It blocks its port for every target, but there may be nothing to reserve."""
    [[code, message, advice]] = alone(("10.0.0.1", 40200, State.BOUND_INACTIVE), ("10.0.0.1", 40300, State.CLOSE))
    assert code == "bound-in-range"
    assert message.startswith("2 sockets are bound to a port of the range without a connection: 10.0.0.1:40200 (")
    assert "sysctl" not in advice


@pytest.mark.parametrize(("most", "is_found"), [(1000, True), (1052, True), (1053, False), (None, False)])
def test_limit_of_time_wait(most: int | None, *, is_found: bool) -> None:
    """From 95 % of tcp_max_tw_buckets on; a file does not say the limit."""
    snapshot = snapshot_of([np.arange(40000, 41000)])
    snapshot.sockets.state[:] = State.TIME_WAIT
    limited = Settings(RANGE, time_wait=TimeWait(most=most))
    found = find_suspicions([usage(Snapshot(snapshot.sockets, limited))])
    assert [one.code for one in found] == ["time-wait-full"] * is_found
