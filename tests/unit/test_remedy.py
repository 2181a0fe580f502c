"""What inspect tells its user to do: sentences with the path's figures, and a command line that advise takes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from connbench.inspect import remedy
from connbench.inspect.forecast import USUAL_FORECASTER, Forecast
from connbench.inspect.inspection import inspect
from connbench.inspect.port_usage import Usage, usage
from connbench.inspect.remedy import Remedy, find_remedy
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_words
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import PortRange, Protocol
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.next_search import Half
from run_connbench import invoke

RANGE = PortRange(32768, 60999)
EVERY = np.arange(RANGE.low, RANGE.high + 1)
EVEN, ODD = EVERY[::2], EVERY[1::2]
ON_6_12 = Settings(RANGE, kernel="6.12.1")
SOURCE, TARGET, LOOPBACK = "10.0.0.5", "10.1.2.3", "127.0.0.1"

SEARCH = Algorithm.FROM_6_8
PAST_KNEE = (
    Forecast("plain", Half.SECOND, 14_116.2, 0.0, 614_000.0, 0, 10_000),
    Forecast("window 500", None, 2.9, 0.0, 13_400.0, None, 10_000),
    Forecast("range", None, 2.8, 0.0, 13_300.0, None, 10_000),
)
BEFORE_KNEE = (
    Forecast("plain", Half.FIRST, 2.0, 0.0, 13_100.0, 116, 14_232),
    Forecast("window 500", None, 2.0, 0.0, 13_100.0, None, 14_232),
    Forecast("range", None, 2.0, 0.0, 13_100.0, None, 14_232),
)


def sockets(
    ports: Sequence[int] | np.ndarray[Any, Any],
    state: State = State.ESTABLISHED,
    *,
    ends: tuple[str, str, int] = (SOURCE, TARGET, 443),
    protocol: int = 6,
    left_ms: int = 30_000,
) -> Sockets:
    """Sockets with these local ports, in a state; port 0 of the other end is none."""
    (family, local), (_, remote) = address_words(ends[0]), address_words(ends[1])
    many = np.ones(len(ports), dtype=np.int64)
    return Sockets.of(
        protocol=protocol * many,
        family=family * many,
        state=state * many,
        expires_ms=np.where(many * state == State.TIME_WAIT, left_ms, -1),
        local=np.tile(np.array(local, dtype=np.uint64), (len(ports), 1)),
        remote=np.tile(np.array(remote, dtype=np.uint64), (len(ports), 1)),
        local_port=np.asarray(ports),
        remote_port=ends[2] * many,
    )


def listening(ports: Sequence[int]) -> Sockets:
    """Listeners on all addresses."""
    return sockets(ports, State.LISTEN, ends=("0.0.0.0", "0.0.0.0", 0))  # noqa: S104  # no socket is bound to it here


def usage_of(*parts: Sockets, settings: Settings = ON_6_12, origin: str = "ss.txt", namespace: str = "") -> Usage:
    """The port usage of these sockets."""
    return usage(Snapshot(Sockets.concatenate(parts), settings, namespace=namespace, origin=origin))


def remedy_of(found: Usage, forecasts: Sequence[Forecast] | None = None, options: Sequence[str] = ()) -> Remedy:
    """The remedy of the fullest path, by these forecasts or by those of the path."""
    [path] = found.rows(1)
    algorithm = USUAL_FORECASTER.search_on(found.snapshot.settings.kernel)
    return find_remedy(
        path, found, forecasts or USUAL_FORECASTER.forecast(path, found.snapshot), algorithm, (), options
    )


def full(waiting: int = 21_517) -> tuple[Sockets, Sockets]:
    """27,900 connections, so many of them in TIME_WAIT, and the free ports here and there."""
    used = np.random.default_rng(1).permutation(EVERY)[:27_900]
    return sockets(used[waiting:]), sockets(used[:waiting], State.TIME_WAIT)


def test_what_to_do_on_a_path_that_is_full_of_time_wait() -> None:
    """The causes first, then what this kernel offers; the command line has what was measured."""
    found = remedy_of(usage_of(*full()), [replace(one, until_exhaustion=332) for one in PAST_KNEE])
    assert found.sentences == (
        (
            "Do: keep connections open and use them again, or let 10.1.2.3:443 close first: this side closed first, so"
            " 21,517 ports stay in TIME_WAIT for 60 s."
        ),
        (
            "Run `sysctl -w net.ipv4.tcp_tw_reuse=1` if both ends have TCP timestamps and the program does not bind()"
            " to a port: connect() then takes a port after 1 s in TIME_WAIT, and about 6,742 ports stay in use."
        ),
        (
            "Use range (IP_LOCAL_PORT_RANGE set to the whole range): connect() then probes 3 ports, and takes about 13"
            " µs instead of 610 µs."
        ),
    )
    assert found.command == (
        "connbench advise -n 6383 --rate 21517/min --closes-first client --target 10.1.2.3:443"
        " --port-range 32768-60999 --kernel 6.12.1 --tcp-tw-reuse 2 --code python"
    )


def test_past_the_knee_with_ports_left_only_the_search_changes() -> None:
    """18,232 connections that stay open need no further ports, and no rate says how they come and go."""
    found = remedy_of(usage_of(sockets(EVERY[:18_232])), PAST_KNEE)
    assert found.sentences == (
        (
            "Do: use range (IP_LOCAL_PORT_RANGE set to the whole range): connect() then probes 3 ports, and takes about"
            " 13 µs instead of 610 µs."
        ),
    )
    assert "-n 18232 --target" in found.command


def test_before_the_knee_the_sentence_says_until_when() -> None:
    """A path that grows has some connections left; the figures of its searches are alike as yet."""
    found = remedy_of(usage_of(sockets(EVEN[:14_000])), BEFORE_KNEE)
    assert found.sentences == (
        (
            "Do: use range (IP_LOCAL_PORT_RANGE set to the whole range) before 116 more connections are open: without"
            " it each connect() then probes 14,116 ports in vain."
        ),
    )


def test_before_the_knee_without_a_better_search_one_more_source_puts_it_off() -> None:
    """One address still suffices, so the least that helps is one more."""
    plain = replace(BEFORE_KNEE[0], until_exhaustion=16_232)
    [sentence] = remedy_of(usage_of(sockets(EVEN[:12_000])), [plain]).sentences
    assert sentence.startswith("Do: connect from 2 source addresses in turn instead of 1: each then has 6,000 ports")


MORE_SOURCES = (
    "Do: connect from 2 source addresses in turn instead of 1: each then has 9,116 ports in use, below the knee at"
    " 14,117; or reserve the ports of listeners, and widen the range to 64,512 ports:"
    ' `sysctl -w net.ipv4.ip_local_port_range="1024 65535"`.'
)


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        ("6.12.1", "Do: use range (IP_LOCAL_PORT_RANGE set to the whole range): connect() then probes 2 ports"),
        ("6.5.0", "Do: use window 500 (IP_LOCAL_PORT_RANGE set to ports drawn at random): connect() then probes 126"),
        ("6.1.0-13-amd64", "Do: use window 500 (IP_LOCAL_PORT_RANGE set to ports drawn at random)"),
        ("6.1.0-9-amd64", MORE_SOURCES),
        ("5.10.0", MORE_SOURCES),
    ],
)
def test_the_kernel_decides_which_search_is_advised(kernel: str, sentence: str) -> None:
    """Range from 6.8 on, a window where the option does not change the order, more sources where there is no option."""
    free = np.random.default_rng(1).choice(ODD, 10_000, replace=False)
    found = remedy_of(usage_of(sockets(np.setdiff1d(EVERY, free)), settings=replace(ON_6_12, kernel=kernel)))
    assert len(found.sentences) == 1
    assert found.sentences[0].startswith(sentence)
    assert f"--kernel {kernel} " in found.command


@pytest.mark.parametrize(
    ("algorithm", "condition", "release"),
    [
        (Algorithm.FROM_6_8, "range (IP_LOCAL_PORT_RANGE set to the whole range) if that host has Linux 6.8", "6.8"),
        (Algorithm.PRE_6_8, "window 500 (IP_LOCAL_PORT_RANGE set to ports drawn at random) if that host has", "6.7"),
        (Algorithm.FROM_4_2, "", "4.2"),
    ],
)
def test_of_a_file_the_kernel_is_a_condition(algorithm: Algorithm, condition: str, release: str) -> None:
    """Nobody knows it: the sentence says which kernels have such a search, and the command line names one."""
    found = usage_of(sockets(EVERY[:18_232]), settings=Settings(RANGE))
    [path] = found.rows(1)
    forecasts = PAST_KNEE[: {Algorithm.FROM_6_8: 3, Algorithm.PRE_6_8: 2, Algorithm.FROM_4_2: 1}[algorithm]]
    said = find_remedy(path, found, forecasts, algorithm)
    assert said.sentences[0].startswith(f"Do: use {condition}") if condition else said.sentences == (MORE_SOURCES,)
    assert f"--kernel {release} --tcp-tw-reuse 2 " in said.command


def test_a_live_host_is_asked_which_options_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file the release tells; this kernel may have a backport. Its release is not on the command line then."""
    found = usage_of(sockets(EVERY[:18_232]), settings=replace(ON_6_12, kernel="5.10.0"), origin="")
    monkeypatch.setattr(remedy, "options_here", lambda: frozenset({NO_PORT.name}))
    assert remedy_of(found, PAST_KNEE).sentences == (MORE_SOURCES,)
    monkeypatch.setattr(remedy, "options_here", lambda: frozenset({NO_PORT.name, LOCAL_PORT_RANGE.name}))
    with_option = remedy_of(found, PAST_KNEE)
    assert "use range" in with_option.sentences[0]
    assert with_option.command == (
        "connbench advise -n 18232 --target 10.1.2.3:443 --port-range 32768-60999 --tcp-tw-reuse 2 --code python"
    )


def test_where_the_kernel_cannot_be_asked_its_release_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that allows sockets of netlink alone has no socket to set an option of."""

    def refuse() -> None:
        raise PermissionError

    monkeypatch.setattr(remedy, "options_here", refuse)
    for kernel, has_option in (("6.12.1", True), ("5.10.0", False)):
        found = usage_of(sockets(EVERY[:18_232]), settings=replace(ON_6_12, kernel=kernel), origin="")
        assert ("use range" in remedy_of(found, PAST_KNEE).sentences[0]) == has_option


def test_a_window_that_often_fails_is_compared_with_its_further_tries() -> None:
    """Ten calls of 50 µs until one finds a port are worth it where one call takes 1.1 ms, not where it takes 0.9 ms."""
    window = Forecast("window 500", None, 490.0, 0.9, 50_000.0, None, 10_000)
    slow = replace(PAST_KNEE[0], connect_ns=1_100_000.0)
    found = usage_of(sockets(EVERY[:18_232]))
    assert remedy_of(found, [slow, window]).sentences[0] == (
        "Do: use window 500 (IP_LOCAL_PORT_RANGE set to ports drawn at random): connect() then probes 490 ports, with"
        " further tries for the 90.0% that find none, and takes about 500 µs instead of 1.1 ms."
    )
    assert remedy_of(found, [replace(slow, connect_ns=900_000.0), window]).sentences == (MORE_SOURCES,)


def test_few_ports_left_need_more_ports_first() -> None:
    """Connections that stay open: sources or a wider range, then the search; no search once no port is free.

    With more than a tenth of the ports free the search is enough.
    """
    enough = [replace(one, until_exhaustion=2_900) for one in PAST_KNEE]
    [sentence] = remedy_of(usage_of(sockets(EVERY[:25_332])), enough).sentences
    assert sentence.startswith("Do: use range ")
    few = [replace(one, until_exhaustion=1_000) for one in PAST_KNEE]
    found = remedy_of(usage_of(sockets(EVERY[:27_232])), few)
    assert found.sentences[0].startswith("Do: connect from 3 source addresses in turn ")
    assert found.sentences[1].startswith("Use range ")
    wide = Settings(PortRange(1024, 65535), kernel="6.12")
    found = remedy_of(usage_of(sockets(range(1024, 65536)), settings=wide))
    assert found.sentences == (
        (
            "Do: connect from 3 source addresses in turn instead of 1: each then has 21,504 ports in use, below the"
            " knee at 32,257."
        ),
    )


@pytest.mark.parametrize(("waiting", "is_cause"), [(14_000, True), (13_900, False)])
def test_time_wait_is_the_cause_where_most_ports_are_in_it(waiting: int, is_cause: bool) -> None:
    """Of 27,900 ports; otherwise connections that are open hold most of them."""
    found = remedy_of(usage_of(*full(waiting)), PAST_KNEE)
    assert found.sentences[0].startswith("Do: keep connections open") == is_cause
    assert f"--rate {waiting}/min" in found.command


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (
            State.CLOSE_WAIT,
            (
                "Do: let the program close its sockets: 18,232 connections are in CLOSE-WAIT, because 10.1.2.3:443"
                " closed them and the program did not."
            ),
        ),
        (
            State.SYN_SENT,
            "Do: find out why 10.1.2.3:443 does not answer: 18,232 connections are in SYN-SENT.",
        ),
    ],
)
def test_states_that_should_not_last_come_first(state: State, sentence: str) -> None:
    """A program that never closes, and a target that does not answer, are causes; the search is a second sentence."""
    found = remedy_of(usage_of(sockets(EVERY[:18_232], state)), PAST_KNEE)
    assert found.sentences[0] == sentence
    assert found.sentences[1].startswith("Use range ")


@pytest.mark.parametrize(
    ("time_wait", "setting", "value"),
    [
        (TimeWait(0), "`sysctl -w net.ipv4.tcp_tw_reuse=1`", "0"),
        (TimeWait(1, has_timestamps=False), "`sysctl -w net.ipv4.tcp_timestamps=1`", "0"),
        (TimeWait(2, has_timestamps=False), "`sysctl -w net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_timestamps=1`", "2"),
        (TimeWait(1), None, "1"),
    ],
)
def test_tcp_tw_reuse_is_advised_where_it_is_missing(time_wait: TimeWait, setting: str | None, value: str) -> None:
    """With 1 connect() takes these ports again already; without timestamps it never does, and advise is told so."""
    found = remedy_of(usage_of(*full(), settings=replace(ON_6_12, time_wait=time_wait)), PAST_KNEE)
    settings = [one for one in found.sentences if "TIME_WAIT, and about" in one]
    assert [one.partition(" if both ends")[0] for one in settings] == ([f"Run {setting}"] if setting else [])
    assert f"--tcp-tw-reuse {value} " in found.command


def older(given: Sockets) -> Sockets:
    """The same, a tenth of a second old."""
    return replace(given, expires_ms=np.full(len(given), 59_900, dtype=np.int32))


def test_on_the_loopback_ports_in_time_wait_are_no_cause() -> None:
    """tcp_tw_reuse 2 lets connect() take them again after a second; the younger ones give the rate.

    A source on the loopback does so, too, which advise cannot see.
    """
    used = np.random.default_rng(1).permutation(EVERY)[:27_900]
    for ends, value in ((("127.0.0.2", LOOPBACK, 443), "2"), (("127.0.0.2", TARGET, 443), "1")):
        parts = (
            sockets(used[:16_000], ends=ends),
            sockets(used[16_000:27_000], State.TIME_WAIT, ends=ends),
            sockets(used[27_000:], State.TIME_WAIT, ends=ends, left_ms=YOUNG_MS),
        )
        found = remedy_of(usage_of(*parts))
        assert not [one for one in found.sentences if "TIME_WAIT" in one]
        assert f"-n 16000 --rate 900/s --closes-first client --target {ends[1]}:443" in found.command
        assert f"--tcp-tw-reuse {value} " in found.command
        assert "--rate" not in remedy_of(usage_of(*parts[:2])).command
        half = replace(ON_6_12, time_wait=TimeWait(delay_s=0.5, most=100_000))
        assert "--rate 900/s" in remedy_of(usage_of(*parts[:2], older(parts[2]), settings=half)).command
        assert "--rate 1800/s" in remedy_of(usage_of(*parts[:2], older(parts[2]), settings=half, origin="")).command


def test_reserved_and_bound_ports_are_named_where_they_are_many() -> None:
    """A tenth of the range and more; both are reserved ports for advise, as the search passes over both."""
    reserved, bound = frozenset(range(33_000, 36_000)), range(40_000, 43_000)
    used = np.setdiff1d(EVERY, [*reserved, *bound])
    parts = sockets(used[:-100]), listening(bound)
    found = remedy_of(usage_of(*parts, settings=replace(ON_6_12, kernel="5.10.0", reserved=reserved)))
    assert "each then has 7,378 ports in use, below the knee at 11,117;" in found.sentences[0]
    assert found.sentences[1:] == (
        (
            "Remove from net.ipv4.ip_local_reserved_ports the ports on which no program listens: it reserves 3,000 of"
            " 28,232 ports."
        ),
        (
            "Close sockets that are bound and not connected, and let programs listen outside 32768-60999: bind() took"
            " 3,000 of 28,232 ports for every target."
        ),
    )
    assert "-n 22132 " in found.command
    assert "--reserved-ports 33000-35999,40000-42999 " in found.command


def test_a_range_without_a_usable_port_or_of_one_has_no_command_line() -> None:
    """There advise has no choice to give; the sentence says what takes the ports."""
    one_port = usage_of(sockets([40_003]), settings=Settings(PortRange(40_003, 40_003), kernel="6.12"))
    assert not remedy_of(one_port).command
    ports = PortRange(40_000, 40_009)
    settings = Settings(ports, frozenset(range(40_000, 40_010)), kernel="6.12")
    # A path needs a port of the range to be one; here all of them became reserved after it was counted.
    counted = usage_of(sockets([40_003]), settings=replace(settings, reserved=frozenset()))
    [path] = counted.rows(1)
    found = find_remedy(
        replace(path, usable=0, ports=path.ports[:0]),
        usage_of(sockets([40_003]), settings=settings),
        [Forecast("plain", Half.NONE, 10.0, 1.0, 3_000.0, 0, 0)],
        SEARCH,
    )
    assert found == Remedy(
        (
            (
                "Do: remove from net.ipv4.ip_local_reserved_ports the ports on which no program listens: it reserves 10"
                " of 10 ports."
            ),
        ),
        "",
    )


def test_a_long_list_of_bound_ports_counts_as_connections() -> None:
    """5,000 single ports are no list to paste: advise then has as many connections more."""
    bound, used = EVEN[:5_000].tolist(), EVEN[5_000:]
    parts = sockets(np.concatenate((used, ODD[:4_000]))), listening(bound)
    command = remedy_of(usage_of(*parts), PAST_KNEE).command
    assert f"-n {len(used) + 4_000 + 5_000} " in command
    assert "--reserved-ports '' " not in command
    elsewhere = usage_of(*parts, origin="", namespace="web")
    assert "--reserved-ports '' " in remedy_of(elsewhere, PAST_KNEE).command  # that of the namespace, not this host's


def test_ports_outside_the_range_do_not_count() -> None:
    """bind() named them; they take no port from a search."""
    parts = sockets(EVERY[:18_232]), sockets([1_000, 1_001]), sockets([1_002], State.TIME_WAIT)
    assert "advise -n 18232 --target" in remedy_of(usage_of(*parts), PAST_KNEE).command


def test_a_target_of_many_hosts_is_not_named() -> None:
    """Only the address of a single host is an argument that advise takes."""
    found = remedy_of(usage_of(sockets(EVERY[:27_000], ends=(SOURCE, "239.1.1.1", 5_353), protocol=17)))
    assert "advise -n 27000 --protocol udp --port-range" in found.command


def test_sources_that_are_alike_count_together() -> None:
    """Three of four sources have as many connections; advise spreads them evenly, so the fourth does not count."""
    parts = [sockets(EVERY[:number], ends=(f"10.0.0.{number % 7}", TARGET, 443)) for number in (20_000, 19_999, 18_001)]
    found = remedy_of(usage_of(*parts, sockets(EVERY[:17_000], ends=("10.0.9.9", TARGET, 443))), PAST_KNEE)
    assert "-n 60000 --target 10.1.2.3:443 --sources 3 " in found.command
    other_target = sockets(EVERY[:20_000], ends=("10.0.9.9", TARGET, 444))
    assert "--sources" not in remedy_of(usage_of(parts[0], other_target), PAST_KNEE).command


def test_a_program_that_seems_to_bind_early_has_the_ports_of_its_source() -> None:
    """Two targets that never share a port: the first thing to do is the option that leaves the port to connect().

    Its ports are in use for both; tcp_tw_reuse gives it none of those in TIME_WAIT, on the loopback neither.
    """
    drawn = np.random.default_rng(1).permutation(ODD)
    source, target, other = "127.0.0.1", "127.0.0.2", "127.0.0.3"
    parts = [
        sockets(drawn[:7_000], State.TIME_WAIT, ends=(source, target, 443)),
        sockets(drawn[7_000:13_000], State.TIME_WAIT, ends=(source, other, 443)),
        sockets(drawn[13_000:14_000], ends=(source, other, 443)),
        sockets(EVEN[5_000:5_002], ends=(source, other, 444)),
        sockets(EVEN[5_000:5_001], State.TIME_WAIT, ends=(source, other, 445)),
        sockets(EVEN[:1_000], ends=("127.0.0.9", target, 443)),
    ]
    found = inspect([Snapshot(Sockets.concatenate(parts), replace(ON_6_12, kernel="5.10.0"), origin="ss.txt")])
    row = found.rows[0]
    early = find_remedy(row.path, row.usage, PAST_KNEE, SEARCH, found.findings)
    assert early.sentences == (
        (
            "Do: set IP_BIND_ADDRESS_NO_PORT before bind() if the program binds to port 0, as its ports suggest: bind()"
            " now takes each port for all 4 targets."
        ),
        (
            f"Keep connections open and use them again, or let {row.path.target}:443 close first: this side closed"
            " first, so 13,000 ports stay in TIME_WAIT for 60 s."
        ),
        (
            "Connect from 2 source addresses in turn instead of 1: each then has 7,001 ports in use, below the knee at"
            " 14,117."
        ),
    )
    words = "-n 1002 --rate 13000/min --closes-first client --today early --targets 4 --port-range 32768-60999"
    assert f"{words} --kernel 5.10.0 --tcp-tw-reuse 0 " in early.command
    assert "IP_BIND_ADDRESS_NO_PORT" not in find_remedy(row.path, row.usage, PAST_KNEE, SEARCH).sentences[0]
    [late] = [one for one in found.rows if one.path.source == "127.0.0.9"]
    assert "--today" not in find_remedy(late.path, late.usage, PAST_KNEE, SEARCH, found.findings).command


def test_udp_has_a_port_once_for_every_target() -> None:
    """Neither search nor TIME_WAIT matters; the ports of the source's other sockets are in use, too."""
    ends = (SOURCE, TARGET, 53)
    found = remedy_of(
        usage_of(
            sockets(EVERY[:20_000], ends=ends, protocol=17),
            sockets(EVERY[20_000:27_000], ends=(SOURCE, "10.1.2.4", 53), protocol=17),
        ),
        options=["--algorithm", "6.8"],
    )
    assert found.sentences == (
        (
            "Do: connect from 2 source addresses in turn instead of 1: each then has 10,000 ports in use, of 21,232; or"
            " reserve the ports of listeners, and widen the range to 64,512 ports:"
            ' `sysctl -w net.ipv4.ip_local_port_range="1024 65535"`.'
        ),
    )
    assert found.command == (
        "connbench advise -n 27000 --protocol udp --target 10.1.2.3:53 --port-range 32768-60999 --kernel 6.12.1 --code"
        " python"
    )


def test_in_another_namespace_the_sentence_says_where() -> None:
    """Sysctls belong to the namespace; advise reads none of them there, so the command line has them."""
    found = usage_of(*full(), settings=replace(ON_6_12, reserved=frozenset({40_000})), origin="", namespace="web")
    said = remedy_of(found, PAST_KNEE)
    assert "`sysctl -w net.ipv4.tcp_tw_reuse=1` in the namespace web if" in said.sentences[2]
    assert "--port-range 32768-60999 --reserved-ports 40000 --tcp-tw-reuse 2 " in said.command


def test_options_of_inspect_that_advise_has_are_handed_on() -> None:
    """With words that a shell would split."""
    command = remedy_of(usage_of(*full()), PAST_KNEE, ["--algorithm", "pre-6.8", "--calibrate", "my file.json"]).command
    assert command.endswith(" --algorithm pre-6.8 --calibrate 'my file.json' --code python")


@given(st.integers(0, 11_000), st.integers(0, 100), st.booleans())
@limits(max_examples=30)
def test_nothing_is_advised_where_nothing_is_wrong(
    connected: int, waiting: int, is_old: bool
) -> None:  # hypothesis passes it
    """Below 40 % of the ports of each path, there is no remedy."""
    settings = replace(ON_6_12, kernel="5.10.0" if is_old else "6.12.0")
    parts = sockets(EVEN[:connected]), sockets(EVEN[connected : connected + waiting], State.TIME_WAIT)
    assert inspect([Snapshot(Sockets.concatenate(parts), settings, origin="ss.txt")]).remedy is None


def test_the_first_path_that_needs_attention_gets_the_remedy() -> None:
    """The fullest path has most of its ports in TIME_WAIT, which connect() takes again; the second is past its knee."""
    calm = sockets(EVERY[:27_000], State.TIME_WAIT, ends=(LOOPBACK, LOOPBACK, 80))
    found = inspect([Snapshot(Sockets.concatenate([calm, sockets([*EVEN, *ODD[:4_000]])]), ON_6_12, origin="ss.txt")])
    assert [row.path.used for row in found.rows] == [27_000, 18_116]
    assert found.remedy
    assert "-n 18116 --target 10.1.2.3:443" in found.remedy.command


YOUNG_MS = 59_500
STATES = (State.ESTABLISHED, State.TIME_WAIT, State.CLOSE_WAIT, State.FIN_WAIT2, State.SYN_SENT)
KERNELS = ("6.12.1", "6.5.0", "6.1.0-13-amd64", "5.10.0", "4.4.0", "3.10.0-1160.el7.x86_64", "2.6.32-754")
ENDS = (
    (SOURCE, TARGET, 443),
    (SOURCE, "239.1.1.1", 5_353),
    ("2001:db8::5", "2001:db8::3", 1),
    ("::1", "::1", 65_535),
    (LOOPBACK, "127.0.0.9", 80),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Paths of one to three sources to a target, in a range of a few ports, of which some are reserved or bound."""
    low, length = draw(st.integers(1, 65_000)), draw(st.integers(3, 60))
    ports = [*range(low, low + length)]
    reserved = draw(st.frozensets(st.sampled_from(ports), max_size=length // 3))
    bound = draw(st.frozensets(st.sampled_from(ports), max_size=length // 3)) - reserved
    usable = sorted({*ports} - reserved - bound)
    source, target, number = draw(st.sampled_from(ENDS))
    protocol = draw(st.sampled_from([6, 6, 6, 17]))
    parts = [listening(sorted(bound))] if bound else []
    for more in range(draw(st.integers(1, 3))):
        used = draw(st.permutations(usable))[: draw(st.integers(1, len(usable)))]
        cut = draw(st.integers(0, len(used)))
        ends = (source[:-1] + str(int(source[-1]) + more), target, number)
        for its in filter(None, (used[:cut], used[cut:])):
            state = State.ESTABLISHED if protocol == 17 else draw(st.sampled_from(STATES))
            left_ms = draw(st.sampled_from([1_000, YOUNG_MS]))
            parts.append(sockets(its, state, ends=ends, protocol=protocol, left_ms=left_ms))
    time_wait = TimeWait(draw(st.integers(0, 2)), has_timestamps=draw(st.booleans()))
    settings = Settings(PortRange(ports[0], ports[-1]), reserved, time_wait, draw(st.sampled_from(KERNELS)))
    return usage_of(*parts, settings=settings)


@given(usages())
@limits(max_examples=15, deadline=None)
def test_advise_takes_the_command_line_and_has_the_measured_numbers(found: Usage) -> None:
    """It ends with 0, and its ports in use, those in TIME_WAIT and those available are the path's, for each source."""
    [path] = found.rows(1)
    said = remedy_of(found)
    assert 1 <= len(said.sentences) <= remedy.MOST_SENTENCES
    name, *words = shlex.split(said.command)
    assert name == "connbench"
    with redirect_stdout(StringIO()) as printed:
        invoke(*words)
    assert printed.getvalue().strip()
    with redirect_stdout(StringIO()) as printed:
        invoke(*words[:-2], "--format", "json")
    document = json.loads(printed.getvalue())
    is_tcp = path.protocol == Protocol.TCP
    is_reused = found.snapshot.settings.time_wait.is_reused(is_loopback=path.is_loopback)
    sources = document["sources"]
    its = found.snapshot.sockets[path.sockets]
    is_waiting = its.state == State.TIME_WAIT
    waiting, young = (int(np.count_nonzero(one)) for one in (is_waiting, is_waiting & (its.expires_ms == YOUNG_MS)))
    connected = max(1, path.used - waiting + (0 if is_tcp else len(path.blocked)))
    in_wait = (young if is_reused else waiting) * sources
    assert document["connections"] == connected * sources
    assert document["time_wait"]["ports"] == in_wait
    assert document["ports_in_use"] == connected * sources + in_wait
    assert document["ports_available"] == (path.usable + (0 if is_tcp else len(path.blocked))) * sources
