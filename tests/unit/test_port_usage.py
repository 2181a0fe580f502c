"""Which sockets are outgoing, how they are grouped, and which ports they have in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connbench.inspect.port_usage import LOOPBACK_INDEX, Usage, usage
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_text, address_words
from connbench.model import PortRange

RANGE = PortRange(40000, 40009)
SOURCE, TARGET, OTHER = "10.0.0.5", "10.1.2.3", "10.1.2.4"
EVERY = "0.0.0.0"  # noqa: S104  # no socket is bound to it here
TCP, UDP = 6, 17

Row = tuple[str, int, str, int, State]
"""Local address and port, remote address and port, state."""


def sockets_of(rows: Sequence[Row], protocol: int = TCP, expires_ms: Sequence[int] | None = None) -> Sockets:
    """Sockets of a protocol; the family is that of the local address."""
    local, remote = [address_words(row[0]) for row in rows], [address_words(row[2]) for row in rows]
    return Sockets.of(
        protocol=[protocol] * len(rows),
        family=[family for family, _ in local],
        state=[row[4] for row in rows],
        expires_ms=[-1] * len(rows) if expires_ms is None else expires_ms,
        local=np.array([words for _, words in local], dtype=np.uint64).reshape(-1, 2),
        remote=np.array([words for _, words in remote], dtype=np.uint64).reshape(-1, 2),
        local_port=[row[1] for row in rows],
        remote_port=[row[3] for row in rows],
    )


def used(*rows: Row, reserved: frozenset[int] = frozenset()) -> Usage:
    """The usage of TCP sockets in a range of ten ports."""
    return usage(Snapshot(sockets_of(rows), Settings(RANGE, reserved)))


def connected(port: int, target: str = TARGET, target_port: int = 443, state: State = State.ESTABLISHED) -> Row:
    """A connection from the source."""
    return SOURCE, port, target, target_port, state


def test_no_socket_has_no_path() -> None:
    """A namespace without sockets has no rows."""
    assert used().rows() == []
    assert used().paths == 0


def test_path_is_source_target_and_target_port() -> None:
    """The same port serves two targets, and counts once on each path."""
    rows = used(connected(40000), connected(40001), connected(40000, OTHER), connected(40000, TARGET, 80)).rows()
    assert {(row.target, row.target_port): row.ports.tolist() for row in rows} == {
        (TARGET, 443): [40000, 40001],
        (OTHER, 443): [40000],
        (TARGET, 80): [40000],
    }
    assert (rows[0].even, rows[0].odd, rows[0].free, rows[0].share) == (1, 1, 8, 0.2)


def test_states_are_counted_apart() -> None:
    """ESTABLISHED and TIME_WAIT have a number of their own, all others by their name in ss."""
    states = [State.ESTABLISHED, State.TIME_WAIT, State.TIME_WAIT, State.FIN_WAIT2, State.SYN_SENT]
    (row,) = used(*(connected(40000 + i, state=state) for i, state in enumerate(states))).rows()
    assert (row.established, row.time_wait, row.others) == (1, 2, {"FIN-WAIT-2": 1, "SYN-SENT": 1})


def test_accepted_ends_are_not_outgoing() -> None:
    """A socket on a listener's address and port was accepted; a listener elsewhere does not change that."""
    found = used(
        (EVERY, 40000, EVERY, 0, State.LISTEN),
        (SOURCE, 40000, TARGET, 50000, State.ESTABLISHED),
        ("10.0.0.6", 40001, EVERY, 0, State.LISTEN),
        ("10.0.0.6", 40001, TARGET, 50001, State.ESTABLISHED),
        connected(40001),
        (SOURCE, 8080, TARGET, 50002, State.ESTABLISHED),
        (SOURCE, 40002, TARGET, 50002, State.SYN_RECV),
    )
    (row,) = found.rows()
    assert (row.target_port, row.ports.tolist()) == (443, [40001])


def test_accepted_ends_stay_accepted_after_their_listener_closed() -> None:
    """One local port to three ports of a peer, each the only one to it; connect() has a local port of its own each."""
    left = [connected(40000, target_port=50000 + i) for i in range(3)]
    targets = [connected(40000 + i, target_port=port) for port in (80, 443, 8080) for i in range(2)]
    assert {row.target_port for row in used(*left, *targets).rows()} == {80, 443, 8080}
    assert len(used(*left, *targets).outgoing) == len(targets)
    assert used(*left).rows() == []
    assert len(used(*left[:2]).rows()) == 2  # connect() may give two targets the same port


def test_listener_of_ipv6_takes_connections_of_ipv4() -> None:
    """A listener on :: accepts from IPv4, too."""
    listener = sockets_of([("::", 40000, "::", 0, State.LISTEN)])
    accepted = sockets_of([(SOURCE, 40000, TARGET, 50000, State.ESTABLISHED), connected(40001)])
    found = usage(Snapshot(Sockets.concatenate([listener, accepted]), Settings(RANGE)))
    assert [row.ports.tolist() for row in found.rows()] == [[40001]]


def test_listeners_of_each_protocol_are_apart() -> None:
    """A TCP listener says nothing of UDP; of UDP a socket without a peer is the server of those on its port."""
    tcp = [(EVERY, 40000, EVERY, 0, State.LISTEN), connected(40001), connected(40002)]
    udp = [(EVERY, 40001, EVERY, 0, State.CLOSE), connected(40001), connected(40000)]
    found = usage(Snapshot(Sockets.concatenate([sockets_of(tcp), sockets_of(udp, UDP)]), Settings(RANGE)))
    assert {row.protocol: row.ports.tolist() for row in found.rows()} == {"tcp": [40001, 40002], "udp": [40000]}


def test_listener_and_bound_socket_block_their_port_on_every_path() -> None:
    """connect() passes over a port that bind() took; a reserved one is none of the range's anyway."""
    found = used(
        ("127.0.0.1", 40003, EVERY, 0, State.LISTEN),
        (EVERY, 40004, EVERY, 0, State.BOUND_INACTIVE),
        (EVERY, 40005, EVERY, 0, State.LISTEN),
        (EVERY, 22, EVERY, 0, State.LISTEN),
        connected(40000),
        reserved=frozenset({40005, 40006}),
    )
    (row,) = found.rows()
    assert found.blocked.tolist() == row.blocked.tolist() == [40003, 40004]
    assert (row.usable, row.free) == (6, 5)


def test_reserved_and_foreign_ports_count_as_outside() -> None:
    """A path has ports outside the usable range only because bind() named them."""
    (row,) = used(connected(40000), connected(40001), connected(1234), reserved=frozenset({40001})).rows()
    assert (row.ports.tolist(), row.outside, row.established) == ([40000], 2, 3)


def test_interface_and_family_are_part_of_a_path() -> None:
    """Sockets bound to two devices may have the same 4-tuple; an IPv6 path is another than IPv4's."""
    two = sockets_of([connected(40000), connected(40000)])
    two.interface[:] = [2, 3]
    six = sockets_of([("2001:db8::1", 40000, "2001:db8::2", 443, State.ESTABLISHED)])
    found = usage(Snapshot(Sockets.concatenate([two, six]), Settings(RANGE)))
    assert sorted((row.source, row.interface) for row in found.rows()) == [
        (SOURCE, 2),
        (SOURCE, 3),
        ("2001:db8::1", 0),
    ]


def test_name_of_a_path_has_device_and_protocol() -> None:
    """A device by its index, or by its name in a file; an IPv6 target in brackets; TCP goes without saying."""
    udp = sockets_of([("fe80::1", 40000, "fe80::2", 53, State.ESTABLISHED)], UDP)
    udp.interface[:] = 2
    assert [row.name for row in usage(Snapshot(udp, Settings(RANGE))).rows()] == ["fe80::1%2 -> [fe80::2]:53 (udp)"]
    of_file = Snapshot(udp, Settings(RANGE), devices={2: "eth0"})
    assert usage(of_file).row(0).name == "fe80::1%eth0 -> [fe80::2]:53 (udp)"
    assert used(connected(40000)).row(0).name == f"{SOURCE} -> {TARGET}:443"


def test_device_s_search_passes_over_sockets_of_no_device() -> None:
    """A port of the same path without a device is not usable on a device's; the path without it loses none."""
    three = sockets_of([connected(port) for port in (40000, 40001, 40002)])
    three.interface[2] = 2
    found = usage(Snapshot(three, Settings(RANGE)))
    assert {row.interface: (row.used, row.usable, row.blocked.tolist()) for row in found.rows()} == {
        0: (2, 10, []),
        2: (1, 8, [40000, 40001]),
    }


def test_timers_of_time_wait_give_rates() -> None:
    """With 60 s in TIME_WAIT, more than 50 s left means that the connection closed in the last 10 s."""
    rows = [connected(40000 + i, state=State.TIME_WAIT) for i in range(4)]
    left = [59_000, 50_001, 14_000, 9_000]
    (row,) = usage(Snapshot(sockets_of(rows, expires_ms=left), Settings(RANGE))).rows()
    assert (row.closing_per_s, row.expiring_per_s) == (0.2, 0.1)
    assert row.time_wait_left == {15: 2, 30: 2, 45: 2, 60: 4}


def test_unknown_timers_give_no_rate() -> None:
    """A dump without timers leaves the rates open."""
    (row,) = used(connected(40000, state=State.TIME_WAIT)).rows()
    assert (row.closing_per_s, row.expiring_per_s, row.time_wait_left) == (None, None, {})


def test_udp_port_is_in_use_for_every_source() -> None:
    """A UDP socket blocks its port for all paths; IPv6 sockets only do so for IPv4 on every address."""
    rows: list[Row] = [
        (SOURCE, 40000, TARGET, 53, State.ESTABLISHED),
        (SOURCE, 40001, OTHER, 53, State.ESTABLISHED),
        (EVERY, 40002, EVERY, 0, State.CLOSE),
        ("10.0.0.6", 40003, TARGET, 53, State.ESTABLISHED),
        ("::", 40004, "::", 0, State.CLOSE),
        ("2001:db8::1", 40005, "2001:db8::2", 53, State.ESTABLISHED),
    ]
    found = usage(Snapshot(sockets_of(rows, UDP), Settings(RANGE))).rows()
    row, over_ipv6 = (next(one for one in found if one.target == target) for target in (OTHER, "2001:db8::2"))
    assert (row.protocol, row.ports.tolist(), row.usable) == ("udp", [40001], 6)
    assert row.blocked.tolist() == [40000, 40002, 40003, 40004]
    assert (over_ipv6.ports.tolist(), over_ipv6.blocked.tolist()) == ([40005], [*range(40000, 40005)])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([SOURCE, "10.0.0.6", "2001:db8::1"]),
            st.integers(39990, 40020),
            st.sampled_from([TARGET, OTHER, "2001:db8::2"]),
            st.sampled_from([80, 443]),
            st.sampled_from([State.ESTABLISHED, State.TIME_WAIT, State.FIN_WAIT1]),
        ).filter(lambda row: (":" in row[0]) == (":" in row[2])),
        max_size=60,
    )
)
def test_rows_are_those_of_a_plain_loop(rows: list[Row]) -> None:
    """Grouping by columns finds what a loop over the sockets finds, sorted by the number of ports."""
    paths: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        paths.setdefault((row[0], row[2], row[3]), []).append(row)
    expected = {
        path: (sorted({row[1] for row in members if row[1] in RANGE}), sum(row[1] not in RANGE for row in members))
        for path, members in paths.items()
        if any(row[1] in RANGE for row in members)
    }
    found = used(*rows).rows()
    assert {(one.source, one.target, one.target_port): (one.ports.tolist(), one.outside) for one in found} == expected
    assert [one.used for one in found] == sorted((one.used for one in found), reverse=True)
    assert [one.used for one in used(*rows).rows(2)] == [one.used for one in found[:2]]


@given(st.ip_addresses())
def test_addresses_go_through_words(address: object) -> None:
    """An address is the same after it was made words, but for IPv4-mapped ones, which are IPv4's."""
    family, words = address_words(str(address))
    mapped = getattr(address, "ipv4_mapped", None)
    assert address_text(family, words) == str(mapped or address)


def test_a_path_on_the_loopback() -> None:
    """One end has an address of the loopback, or the socket is bound to its device: so says `tcp_twsk_unique`."""
    loopback = "127.0.0.1"
    for source, target in ((loopback, loopback), (loopback, TARGET), (SOURCE, "127.9.9.9"), ("::1", "::1")):
        assert used((source, 40001, target, 443, State.ESTABLISHED)).rows()[0].is_loopback
    [path] = used((SOURCE, 40001, TARGET, 443, State.ESTABLISHED)).rows()
    assert not path.is_loopback
    assert not replace(path, interface=2).is_loopback
    assert replace(path, interface=LOOPBACK_INDEX).is_loopback
