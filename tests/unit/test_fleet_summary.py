"""What several hosts measured, from results whose moments are known to the nanosecond."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.fleet_summary import (
    ABSENT,
    CLOCK_OFFSET,
    UNEVEN_START,
    FleetSummary,
    InAll,
    compare_fleets,
    summarize_fleet,
)
from connbench.errors import RunFault
from connbench.findings import Severity
from connbench.model import Churn, Load, Phase, StrategySpec
from connbench.results.fleet_file import Fleet, HostRecord, with_short_names
from connbench.results.result import PARTIAL, Result, Round, Samples
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of, unhurried

EPOCH_US = 1_790_000_000_000_000
"""Some moment of 2026, in us since 1970."""

MS = 1_000_000


def begun(samples: Samples, after_us: int = 0, number: int = 1) -> Round:
    """A round whose clock begins so long after `EPOCH_US`."""
    measured = round_of(samples, number)
    return replace(measured, report=replace(measured.report, epoch_us=EPOCH_US + after_us))


def host(name: str, *rounds: Round, offset_us: float | None = 0.0, spec: StrategySpec = BIND) -> HostRecord:
    """A host with these rounds of a strategy, and a clock that is so far ahead."""
    return HostRecord(name, named(result_of({spec: rounds}), name), offset_us=offset_us, error_us=100.0)


def named(result: Result, name: str) -> Result:
    """The result, with the name of its host."""
    result.name = name
    return result


def together(*hosts: HostRecord) -> FleetSummary:
    """The summary of hosts that ran at the same time."""
    return summarize_fleet(Fleet(hosts, is_together=True))


def in_all(found: FleetSummary) -> InAll:
    """The figures of the one strategy of all hosts."""
    [one] = found.strategies
    assert one.in_all
    return one.in_all


def calls(number: int, each_ns: int = MS) -> Samples:
    """Attempts one after the other, each so long in all."""
    return samples_of([each_ns - 1000] * number)


def test_rate_counts_the_time_in_which_all_hosts_ran() -> None:
    """One host runs for 10 ms and the other, 4 ms later, for 20 ms: 6 connections of each are in the 6 ms of both."""
    found = together(host("a", begun(calls(10))), host("b", begun(calls(20), 4_000)))
    figures = in_all(found)
    assert (figures.span_ns, figures.whole_ns) == (6 * MS, 24 * MS)
    assert figures.overlap == 0.25
    assert figures.rate == pytest.approx(12 / 0.006)
    [one] = found.strategies
    assert {h.host: h.rate for h in one.hosts} == pytest.approx({"a": 1000, "b": 1000})


def test_clock_that_is_ahead_is_put_right() -> None:
    """The host whose clock is 3 s ahead began at the same moment."""
    found = together(host("a", begun(calls(10))), host("b", begun(calls(10), 3_000_000), offset_us=3e6))
    assert in_all(found).spreads_ns == (0.0,)
    assert in_all(found).overlap == 1
    assert [f.code for f in found.findings] == []


def test_each_turn_has_its_own_offset() -> None:
    """A turn is a round of one strategy: with two strategies round 2 begins with the third offset."""
    rounds = {spec: [begun(calls(4), after, n) for n, after in ((1, 0), (2, 700))] for spec in (BIND, PLAIN)}
    a, b = (named(result_of(rounds), name) for name in "ab")
    found = together(HostRecord("a", a, offset_us=0.0), HostRecord("b", b, offsets_us=(0.0, 100.0, 200.0, 300.0)))
    assert {one.strategy.name: one.in_all and one.in_all.spreads_ns for one in found.strategies} == {
        "bind": (0.0, 200_000.0),
        "plain": (100_000.0, 300_000.0),
    }


def test_most_open_ends_with_the_round_of_a_host() -> None:
    """The first host closes its 10 connections at 10 ms; the second has 6 by then, and 20 at its end."""
    found = together(host("a", begun(calls(10))), host("b", begun(calls(20), 4_000)))
    [one] = found.strategies
    assert {h.host: h.peak for h in one.hosts} == {"a": 10, "b": 20}
    assert in_all(found).peak == 20
    later = together(host("a", begun(calls(10))), host("b", begun(calls(20, MS // 2), 4_000)))
    assert in_all(later).peak == 10 + 12


def test_failed_attempts_open_nothing() -> None:
    """Half of the attempts fail: neither rate nor open connections contain them, and the errors name them."""
    half = samples_of([MS - 1000] * 10, errno=[0, errno.EADDRNOTAVAIL] * 5)
    found = together(host("a", begun(half)), host("b", begun(half)))
    [one] = found.strategies
    assert in_all(found).peak == 10
    assert [h.summary.errors for h in one.hosts] == [{"EADDRNOTAVAIL": 5}] * 2
    assert in_all(found).rate == pytest.approx(sum(h.rate or 0 for h in one.hosts))


def test_churn_keeps_the_connections_of_the_filling_open() -> None:
    """A churn replaces connections: as many are open as the filling left."""
    load = Load(connections=6, churn=Churn(4))
    fill, churn = StrategySpec("bind", load=load), StrategySpec("bind", load=load, phase=Phase.CHURN)
    later = replace(calls(4), started_ns=calls(4).started_ns + 6 * MS)
    hosts = []
    for name in "ab":
        result = result_of({fill: [begun(calls(6))]})
        result.rounds[churn] = [begun(later)]
        hosts.append(HostRecord(name, named(result, name), offset_us=0.0))
    found = together(*hosts)
    assert {one.strategy.phase: one.in_all and one.in_all.peak for one in found.strategies} == {
        Phase.FILL: 12,
        Phase.CHURN: 12,
    }


def test_lost_syns_and_the_connections_that_were_open() -> None:
    """The last of 10 attempts has no answer: it began as 9 connections of each host were open."""
    lost = samples_of([MS - 1000] * 10, errno=[0] * 9 + [errno.EINPROGRESS])
    found = together(host("a", begun(lost)), host("b", begun(lost)))
    assert in_all(found).open_at_loss == 18
    assert [h.lost for h in found.strategies[0].hosts] == [1, 1]
    assert in_all(together(host("a", begun(calls(9))), host("b", begun(calls(9))))).open_at_loss is None


def test_hosts_that_never_ran_at_the_same_time_have_no_rate() -> None:
    """One began after the other had ended."""
    found = together(host("a", begun(calls(10))), host("b", begun(calls(10), 20_000)))
    figures = in_all(found)
    assert (figures.rate, figures.span_ns, figures.overlap) == (None, 0, 0)
    assert figures.peak == 10


def test_rounds_that_a_host_lacks_do_not_count() -> None:
    """A host was lost after round 1: round 2 is of some hosts alone."""
    found = together(host("a", begun(calls(10)), begun(calls(10), number=2)), host("b", begun(calls(10))))
    assert in_all(found).rounds == 1


def test_files_that_do_not_say_when_a_round_began_have_no_figures_of_all() -> None:
    """They are those of earlier versions, and CSV files."""
    found = together(host("a", round_of(calls(10))), host("b", begun(calls(10))))
    [one] = found.strategies
    assert one.in_all is None
    assert [f.code for f in found.findings] == [CLOCK_OFFSET]
    assert found.findings[0].text.startswith("a: ")


MOMENTS = st.lists(st.integers(1, 50), min_size=1, max_size=12)
HOSTS = st.lists(st.tuples(MOMENTS, st.integers(0, 20_000), st.booleans()), min_size=1, max_size=5)


def test_round_whose_engine_was_killed_says_nothing_and_has_no_finding_of_its_own() -> None:
    """The other rounds have the figures of all hosts."""
    killed = Round(2, calls(2), fault=RunFault("the engine process was killed by SIGKILL"))
    found = together(host("a", begun(calls(2)), begun(calls(2), number=2)), host("b", begun(calls(2)), killed))
    assert CLOCK_OFFSET not in {f.code for f in found.findings}
    assert in_all(found).rounds == 1


def made(drawn: Sequence[tuple[list[int], int, bool]]) -> list[HostRecord]:
    """Hosts by the lengths of their attempts in 100 us, when they began in us, and whether every third one failed."""
    hosts = []
    for number, (lengths, after, fails) in enumerate(drawn):
        numbers = [errno.EADDRNOTAVAIL if fails and i % 3 == 2 else 0 for i in range(len(lengths))]
        hosts.append(host(f"h{number}", begun(samples_of([100_000 * one for one in lengths], errno=numbers), after)))
    return hosts


@unhurried
@given(HOSTS)
def test_laws_of_the_figures_of_all_hosts(drawn: list[tuple[list[int], int, bool]]) -> None:
    """Rates add up, shares are shares, no host has more than all, and the order of hosts changes nothing."""
    hosts = made(drawn)
    found = together(*hosts)
    figures = in_all(found)
    of_hosts = {one.host: one for one in found.strategies[0].hosts}
    assert 0 <= figures.overlap <= 1
    assert figures.span_ns <= figures.whole_ns
    peaks = [one.peak or 0 for one in of_hosts.values()]
    assert max(peaks) <= figures.peak <= sum(peaks)
    if figures.rate is None:
        assert figures.span_ns == 0
    else:
        assert figures.rate == pytest.approx(sum(one.rate or 0 for one in of_hosts.values()))
    other = together(*reversed(hosts))
    assert in_all(other) == figures
    assert {one.host: (one.rate, one.peak, one.start_ns) for one in other.strategies[0].hosts} == {
        name: (one.rate, one.peak, one.start_ns) for name, one in of_hosts.items()
    }


@unhurried
@given(MOMENTS, st.booleans())
def test_one_host_together_has_the_figures_of_its_run(lengths: list[int], fails: bool) -> None:  # drawn
    """Its rate is that of its summary, and its overlap is whole."""
    found = together(*made([(lengths, 0, fails)]))
    [figures] = found.strategies[0].hosts
    assert figures.rate == pytest.approx(figures.summary.rate)
    assert figures.peak == figures.summary.connected
    assert in_all(found).overlap == 1


def test_slowest_host_comes_first() -> None:
    """By its rate if they ran together, else by the cost of a connection."""
    fast, slow = begun(calls(20)), begun(calls(20, 2 * MS))
    assert [h.host for h in together(host("a", fast), host("b", slow)).strategies[0].hosts] == ["b", "a"]
    apart = summarize_fleet(Fleet((host("a", fast), host("b", slow))))
    assert [h.host for h in apart.strategies[0].hosts] == ["b", "a"]
    assert apart.strategies[0].in_all is None


def test_each_host_is_compared_with_the_first_one_that_measured() -> None:
    """As `connbench compare` does it; hosts that ran together share a target, and are not compared so."""
    rounds = [begun(calls(4), number=n) for n in range(1, 6)]
    slow = [begun(calls(4, 3 * MS), number=n) for n in range(1, 6)]
    absent = HostRecord("x", None, RunFault("no answer"))
    found = summarize_fleet(Fleet((absent, host("a", *rounds), host("b", *slow), host("c", *rounds))))
    assert [name for name, _ in found.comparisons] == ["b", "c"]
    compared = {
        h.host: h.against_first and str(h.against_first.figures["total"].verdict) for h in found.strategies[0].hosts
    }
    assert compared == {"a": None, "b": "slower", "c": "no difference shown"}
    assert together(host("a", *rounds), host("b", *slow)).comparisons == ()


def test_findings_about_hosts() -> None:
    """An absent host, one that was left out, a lost one, a bad clock, an unknown one, and an uneven start."""
    hosts = (
        host("a", begun(calls(20))),
        host("b", begun(calls(20), 6_000)),
        replace(host("c", begun(calls(20))), error_us=6_000.0),
        replace(host("d", begun(calls(20)), offset_us=None), error_us=None),
        replace(host("e", begun(calls(20))), fault=RunFault("ssh died", "look there")),
        HostRecord("f", None, RunFault("no answer", "is it up?")),
        HostRecord("g", None, RunFault("no answer"), left_out=True),
    )
    found = {(f.code, f.strategy): f for f in together(*hosts).findings}
    assert {place: f.severity for place, f in found.items()} == {
        (CLOCK_OFFSET, "c"): Severity.WARNING,
        (CLOCK_OFFSET, "d"): Severity.WARNING,
        (PARTIAL, "e"): Severity.WARNING,
        (ABSENT, "f"): Severity.WARNING,
        (ABSENT, "g"): Severity.NOTE,
        (UNEVEN_START, "bind, round 1"): Severity.WARNING,
    }
    assert found[PARTIAL, "e"].text == "e: partial: ssh died"
    assert "6.00 ms apart, b last" in found[UNEVEN_START, "bind, round 1"].text
    assert {f.code for f in summarize_fleet(Fleet(hosts)).findings} == {PARTIAL, ABSENT}


def test_findings_of_results_have_the_name_of_their_host() -> None:
    """Alike findings of many hosts are one, which names some of them."""
    broken = samples_of([10_000] * 3, errno=[0, 0, errno.ECONNREFUSED])
    hosts = tuple(host(name, round_of(broken)) for name in "abcdef")
    [found] = [f for f in summarize_fleet(Fleet(hosts)).findings if f.code == "failed-otherwise"]
    assert found.text.startswith("a: bind, b: bind, c: bind and 3 more: ")
    assert found.severity is Severity.INVALID


def test_fleets_are_compared_by_the_names_of_hosts() -> None:
    """Whatever their order; hosts of one file only are named."""
    rounds = [round_of(calls(4), n) for n in range(1, 6)]
    base = Fleet((host("a", *rounds), host("b", *rounds), host("c", *rounds)))
    new = Fleet((host("d", *rounds), host("b", *rounds), host("a", *rounds), HostRecord("c", None, RunFault("gone"))))
    found = compare_fleets(base, new)
    assert list(found.hosts) == ["a", "b"]
    assert (found.only_base, found.only_new) == (("c",), ("d",))
    assert all(comparison.base.name == name == comparison.new.name for name, comparison in found.hosts.items())


@pytest.mark.parametrize(
    ("names", "short", "domain"),
    [
        (["a.x.org", "b.x.org"], ["a", "b"], ".x.org"),
        (["a.x.org", "a.y.org"], ["a.x", "a.y"], ".org"),
        (["x.org", "a.x.org"], ["x", "a.x"], ".org"),
        (["10.0.0.1", "10.1.0.1"], ["10.0.0.1", "10.1.0.1"], ""),
        (["a", "b"], ["a", "b"], ""),
        (["a.x.org"], ["a.x.org"], ""),
    ],
)
def test_names_of_hosts_lose_the_domain_that_all_have(names: list[str], short: list[str], domain: str) -> None:
    """A name is never empty, and no two become one."""
    fleet = Fleet(tuple(host(name, round_of(calls(2))) for name in names))
    found, shared = with_short_names(fleet)
    assert ([h.name for h in found.hosts], shared) == (short, domain)
    assert [result.name for result in found.results] == short
    assert [result.name for result in fleet.results] == names


def test_strategy_that_a_host_lacks_is_named() -> None:
    """Hosts of a merge need not have measured the same."""
    both = named(result_of({BIND: [round_of(calls(4))], WINDOW: [round_of(calls(4))]}), "a")
    found = summarize_fleet(Fleet((HostRecord("a", both), host("b", round_of(calls(4))))))
    assert {one.strategy.label: one.lacking for one in found.strategies} == {"bind": (), "window 500": ("b",)}
