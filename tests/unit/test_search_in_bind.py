"""Reports of strategies whose port search is in bind(): bind() and connect() by themselves, by half of the range."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.comparison import compare, compare_totals
from connbench.analysis.gate import evaluate
from connbench.analysis.knee import find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import held_before, summarize
from connbench.analysis.sweep_analysis import Figures
from connbench.model import Endpoint, Load, PortRange, Protocol, Reuse, StrategySpec
from connbench.report import run_report
from connbench.report.html.page import html_page
from connbench.report.json import json_document
from connbench.report.prometheus import prometheus
from connbench.report.run_verdict import run_verdict
from connbench.report.series import ACQUIRE, LATENCY, figure_of, in_figure, series_of
from connbench.results.csv_file import csv_rows, read_csv
from connbench.results.json_file import read_json
from connbench.results.result import Origin, Result, Samples
from connbench.thresholds import parse
from factories import BIND, PLAIN, PLAN, RANDOM, result_of, round_of, samples_of, unhurried

EARLY = StrategySpec("early")
REUSING = replace(EARLY, reuse=Reuse.ADDRESS)
RANGE = StrategySpec("range")
FEW = replace(PLAN, port_range=PortRange(20000, 20999))
"""A plan over 1,000 ports."""


def bound(bind_ns: Sequence[int], connect_ns: Sequence[int], **columns: Sequence[int]) -> Samples:
    """One connection after the other, with the time that bind() and connect() of each take: odd ports first."""
    ports = [*range(20001, 21000, 2), *range(20000, 21000, 2)][: len(bind_ns)]
    return samples_of(connect_ns, **{"prepare_ns": bind_ns, "port": ports, **columns})


CLIFF = bound([1_000] * 500 + [700_000] * 500, [4_000] * 500 + [17_000] * 500)
QUARTERS = bound(
    [ns for ns in (1_000, 50_000, 110_000, 200_000) for _ in range(250)],
    [4_000] * 1000,
    port=[
        *chain(
            *(range(first, last, 2) for first, last in ((20001, 20500), (20000, 20500), (20501, 21000), (20500, 21000)))
        )
    ],
)
"""With SO_REUSEADDR bind() fills one half of the range before the other: one quarter after the other."""

TARGETS = (Endpoint("127.9.9.2", 9023), Endpoint("127.9.9.3", 9023))
SHARING = replace(RANDOM, reuse=Reuse.ADDRESS)
LIST = StrategySpec("sequential")

SEARCHED = samples_of([5_000] * 500 + [60_000] * 500)


def run_of(*measured: tuple[StrategySpec, Samples]) -> Result:
    """A run over 1,000 ports."""
    return result_of({spec: [round_of(samples)] for spec, samples in measured}, FEW)


def cells(report: str, table: str) -> dict[str, dict[str, str]]:
    """The rows of the first table of this name, by their first cells, as cells by column."""
    lines = report.splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith(table + "  "))
    head, *rows = ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in takewhile(bool, lines[top:]))
    return {
        row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in takewhile(lambda row: len(row) == len(head), rows)
    }


def test_bind_and_connect_stand_apart_by_parity_and_half() -> None:
    """What the kernel takes in each call is read directly: the half that comes first has the odd ports."""
    report = run_report.text(run_of((EARLY, CLIFF)))
    bind, latency = cells(report, "bind()"), cells(report, "latency")
    assert list(bind) == list(latency) == ["all", "even", "odd", "first half", "second half"]
    assert [bind[row]["p50"] for row in bind] == ["350 µs", "700 µs", "1.00 µs", "1.00 µs", "700 µs"]
    assert [latency[row]["p50"] for row in latency] == ["10.5 µs", "17.0 µs", "4.00 µs", "4.00 µs", "17.0 µs"]
    assert (bind["first half"]["total"], bind["second half"]["total"]) == ("500 µs", "350 ms")
    assert (latency["first half"]["total"], latency["all"]["total"]) == ("2.00 ms", "10.5 ms")


def test_tries_stand_by_half_where_a_program_binds_again_and_again() -> None:
    """`random` calls bind() more often the fuller the range is."""
    acquire = cells(
        run_report.text(run_of((RANDOM, bound([9_000] * 1000, [4_000] * 1000, tries=[1, 3] * 250 + [9] * 500)))),
        "acquire",
    )
    assert {row: acquire[row]["tries mean"] for row in ("first half", "second half")} == {
        "first half": "2.00",
        "second half": "9.00",
    }


def test_strategy_that_leaves_the_port_to_connect_has_the_tables_that_it_had() -> None:
    """bind() of `plain` and `bind` takes no port: nothing stands apart."""
    report = run_report.text(run_of((BIND, SEARCHED)))
    assert list(cells(report, "latency")) == list(cells(report, "acquire")) == ["all", "even", "odd"]
    assert "bind()" not in report


@unhurried
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([0, errno.EADDRINUSE])), min_size=1
    )
)
def test_bind_and_connect_add_up_to_the_acquire_time(calls: list[tuple[int, int, int]]) -> None:
    """No time is lost between the two, and none counts twice, whatever fails in which call."""
    made = samples_of(
        [0 if failed else connect for _, connect, failed in calls],
        prepare_ns=[bind for bind, _, _ in calls],
        errno=[failed for *_, failed in calls],
    )
    assert (made.bind_ns + made.connect_ns == made.calls_ns).all()
    assert (made.bind_ns >= 0).all()


@unhurried
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([PLAIN, EARLY, replace(RANDOM, reuse=Reuse.ADDRESS)]),
)
def test_ports_in_use_are_those_that_the_attempt_could_have_had(
    attempts: list[tuple[int, int, bool]], spec: StrategySpec
) -> None:
    """Those of its source, and of its target where connect() looks for a free 4-tuple: counted one by one."""
    source, target, failed = map(list, zip(*attempts, strict=True))
    made = samples_of([1] * len(attempts), source=source, target=target, errno=[99 * one for one in failed])
    spaces = [(s, t) if spec.has_ports_per_target else (s,) for s, t, _ in attempts]
    expected = [
        sum(not failed[earlier] for earlier in range(row) if spaces[earlier] == spaces[row])
        for row in range(len(attempts))
    ]
    assert held_before(made, spec).tolist() == expected


def test_halves_are_those_of_each_source() -> None:
    """Sources that are filled one after the other have a first and a second half each."""
    plan = replace(FEW, sources=("127.9.9.1", "127.9.9.2"), port_range=PortRange(20000, 20009))
    made = samples_of([1_000] * 5 + [2_000] * 5 + [1_000] * 5 + [2_000] * 5, source=[0] * 10 + [1] * 10)
    halves = summarize(result_of({EARLY: [round_of(made)]}, plan).strategies[0]).halves
    assert {name: (half.latency.count, half.latency.maximum) for name, half in halves.items()} == {
        "first half": (10, 1_000),
        "second half": (10, 2_000),
    }


def test_verdict_says_that_bind_turns_slow_and_what_to_do() -> None:
    """Never that connect() is fast: what a program waits is in bind()."""
    assert run_verdict(run_of((EARLY, CLIFF), (BIND, SEARCHED))) == (
        "bind turns slow at connection 501 (50 % of the ports): acquire p50 6 µs before, 61 µs after.",
        (
            "early: bind() turns slow at connection 501 (50 % of the ports), p50 1 µs before, 700 µs after; "
            "connect() takes 4 µs before, 17 µs after."
        ),
        (
            "Set IP_BIND_ADDRESS_NO_PORT before bind(): then connect() chooses the port, for its own target only "
            "(as bind and range do)."
        ),
        "Next: connbench run --strategy bind --strategy range --port-range 20000-20999 shows what helps.",
    )


def test_with_reuse_bind_turns_slow_at_a_quarter() -> None:
    """The search of one half of the range first has its steps at a quarter, a half and three quarters."""
    result = run_of((REUSING, QUARTERS))
    assert find_knee(result.strategies[0]).in_use == 250
    assert run_verdict(result)[0] == (
        "early, SO_REUSEADDR: bind() turns slow at connection 251 (25 % of the ports), p50 1 µs before, 110 µs after; "
        "connect() takes 4 µs before, 4 µs after."
    )


def test_bind_that_becomes_slower_without_a_step_is_told_as_well() -> None:
    """In a small range on a busy machine the long searches are no step: the verdict still says where the time is."""
    grows = bound(list(range(1_000, 51_000, 50)), [4_000] * 1000)
    assert run_verdict(run_of((EARLY, grows)))[:2] == (
        (
            "early slows down in bind() from 6.2 µs in the first 5 % of the connections to 54 µs in the last 5 % "
            "(acquire p50)."
        ),
        (
            "Set IP_BIND_ADDRESS_NO_PORT before bind(): then connect() chooses the port, for its own target only "
            "(as bind and range do)."
        ),
    )


def test_udp_searches_in_bind_with_every_strategy() -> None:
    """No option moves its search to connect(): nothing is said of bind() apart."""
    over_udp = replace(EARLY, load=Load(protocol=Protocol.UDP))
    result = run_of((over_udp, CLIFF))
    assert not any(line.startswith("bind()") for line in run_report.text(result).splitlines())
    assert not any("IP_BIND_ADDRESS_NO_PORT" in sentence for sentence in run_verdict(result))


def test_sources_and_clients_are_told_by_acquire_time() -> None:
    """Their connect() is as short as that of all."""
    plan = replace(FEW, sources=("127.9.9.1", "127.9.9.2"))
    spec = replace(EARLY, load=Load(concurrency=2))
    parts = [0, 1] * 500
    made = replace(CLIFF, source=np.array(parts, "H"), client=np.array(parts, "H"))
    report = run_report.text(result_of({spec: [round_of(made)]}, plan))
    assert cells(report, "source")["127.9.9.1"]["acquire mean"] == "361 µs"
    assert cells(report, "client")["1"]["acquire mean"] == "361 µs"


def test_slower_goes_by_the_acquire_time() -> None:
    """A gate on two runs of which one has a slower bind()."""
    slower = bound([2 * ns for ns in CLIFF.prepare_ns.tolist()], CLIFF.connect_ns.tolist())
    base, new = (
        result_of({EARLY: [round_of(made, number) for number in range(1, 6)]}, FEW) for made in (CLIFF, slower)
    )
    [failure] = evaluate([parse("slower", with_base=True)], new, base)
    assert failure.text.endswith("slower: the mean acquire time is 1.97x the base's")


def test_failures_in_bind_are_told_in_its_sentence() -> None:
    """Attempts beyond the last port fail in bind()."""
    beyond = bound(
        [1_000] * 500 + [700_000] * 510,
        [4_000] * 1000 + [0] * 10,
        errno=[0] * 1000 + [98] * 10,
        port=[*CLIFF.port, *[0] * 10],
    )
    assert (
        "10 of 1,010 attempts (1.0 %) find no port, for all ports are in use" in run_verdict(run_of((EARLY, beyond)))[0]
    )


def test_verdict_counts_the_bind_calls_of_a_list_and_of_shared_ports() -> None:
    """What these cost does not follow from the ports in use; a program that needs one call has no sentence."""
    calls = {LIST: [1] * 500 + [4] * 500, SHARING: [1] * 1000}
    measured = [(spec, samples_of([5_000] * 1000, tries=tries)) for spec, tries in calls.items()]
    told = "For a connection sequential calls bind() 2.5 times and random, SO_REUSEADDR calls bind() 1.0 times."
    assert told in run_verdict(run_of(*measured))
    assert not any("calls bind()" in sentence for sentence in run_verdict(run_of(*measured[1:])))


def test_next_command_has_no_option_that_its_strategies_do_not_take() -> None:
    """`bind` and `range` take no --reuse-address: connbench would refuse it."""
    assert run_verdict(run_of((REUSING, QUARTERS)))[-1] == (
        "Next: connbench run --strategy bind --strategy range --port-range 20000-20999 shows what helps."
    )


def notes(spec: StrategySpec, *others: StrategySpec, targets: tuple[Endpoint, ...] = TARGETS[:1]) -> list[str]:
    """The findings about what a strategy's bind() does."""
    made = samples_of([5_000] * 4, tries=[1, 2, 3, 1], errno=[0, 0, 0, errno.EADDRNOTAVAIL])
    result = result_of({one: [round_of(made)] for one in (spec, *others)}, replace(PLAN, targets=targets))
    codes = {"port-for-all-targets", "reuse-without-use", "list-of-each-client", "bound-ports"}
    return [found.text for found in findings(result) if found.code in codes and found.strategy == spec.label]


def test_port_that_every_target_misses_is_told() -> None:
    """More targets give a program no more ports if bind() takes them; with reuse, or by connect(), they do."""
    told = ["early: bind() takes a port for every target: the 2 targets have no more ports than one"]
    assert notes(EARLY, targets=TARGETS) == told
    assert notes(SHARING, targets=TARGETS) == notes(PLAIN, targets=TARGETS) == notes(EARLY) == []


def test_reuse_with_one_target_only_fails_later() -> None:
    """bind() lets a port pass that connect() refuses: three tries more, and the one that failed for good."""
    assert notes(SHARING) == [
        "random, SO_REUSEADDR: with one target no port is shared: 4 of 7 tries passed bind() and failed in connect()"
    ]


def test_clients_with_lists_of_their_own_are_told() -> None:
    """A program whose processes all begin at the same port meets the others' ports."""
    assert notes(LIST) == []
    [told] = notes(replace(LIST, load=Load(concurrency=2)))
    assert "each client begins at a place of its own in the list of ports" in told


def test_strategies_that_do_not_meet_are_told() -> None:
    """Each has a namespace of its own: what bind() took is in nobody's way."""
    assert notes(EARLY, RANDOM) == []
    [told] = notes(EARLY, PLAIN)
    assert "connect() of the others passes over every port that bind() took" in told


def test_too_few_connections_do_not_show_what_bind_costs() -> None:
    """Up to half of the ports every search is short."""
    few = Samples(**{name: column[:300] for name, column in CLIFF.columns.items()})
    plan = replace(FEW, connections=300)
    assert run_verdict(result_of({EARLY: [round_of(few)]}, plan))[0] == (
        "300 connections of 1,000 ports cannot show whether early turns slow: bind() turns slow when more than half "
        "are in use."
    )


def test_ranking_names_bind_and_connect_and_fits_a_terminal() -> None:
    """What a connection costs is in the column of the call that costs it."""
    report = run_report.text(run_of((EARLY, CLIFF), (StrategySpec("window", window=10000, retries=1000), SEARCHED)))
    assert cells(report, "strategy")["early"] == {
        "acquire": "361 µs",
        "vs early": "1.00 x",
        "bind()": "350 µs",
        "connect()": "10.5 µs",
        "errors": "0",
    }
    assert max(len(line) for line in report.splitlines() if line.startswith(("early  ", "strategy  "))) <= 80


def test_programs_read_both_calls_and_halves() -> None:
    """JSON has them in ns, Prometheus in seconds."""
    result = run_of((EARLY, CLIFF))
    summary = json.loads(json_document(result))["strategies"][0]["summary"]
    assert [summary[half]["bind_ns"]["p50"] for half in ("first_half", "second_half")] == [1_000, 700_000]
    assert [summary[half]["latency_ns"]["p50"] for half in ("first_half", "second_half")] == [4_000, 17_000]
    metrics = prometheus(result)
    assert 'connbench_bind_seconds_sum{parity="even",strategy="early"} 0.35' in metrics
    assert 'connbench_half_seconds{call="bind()",figure="p50",half="second half",strategy="early"} 0.0007' in metrics


def test_files_that_are_read_back_have_the_knee_of_bind() -> None:
    """JSON and CSV hold the columns; what they are read into knows in which call the search is."""
    result = run_of((EARLY, CLIFF))
    for read in (read_json(json_document(result).encode(), "a.json"), read_csv(csv_rows(result), "a.csv")):
        assert find_knee(read.strategies[0]).connection == 501
        assert "early: bind() turns slow at connection 501" in run_verdict(read)[0]


def test_markdown_has_both_calls() -> None:
    """A table for an issue says in which call the time is."""
    assert "**early** in bind() and connect():" in run_report.markdown(run_of((EARLY, CLIFF)))
    assert re.search(r"second half \| +500 \| +350 ms \| +700 µs", run_report.markdown(run_of((EARLY, CLIFF))))


@pytest.mark.parametrize(
    ("condition", "fails"),
    [("bind.p50 > 300us", True), ("odd.bind.max > 1us", False), ("even.bind.min >= 3x odd.bind.p99", True)],
)
def test_bind_has_thresholds(condition: str, fails: bool) -> None:
    """A gate on the time in bind(), by parity."""
    assert bool(evaluate([parse(condition)], run_of((EARLY, CLIFF)), None)) is fails


def test_charts_draw_what_shows_the_search() -> None:
    """connect() of `early` is flat: with it in a chart all strategies are drawn by their acquire time, by that name."""
    assert figure_of(series_of([run_of((BIND, SEARCHED))])) == LATENCY
    series = series_of([run_of((EARLY, CLIFF), (BIND, SEARCHED))])
    assert figure_of(series) == ACQUIRE
    talk = replace(run_of((PLAIN, SEARCHED)), origin=Origin.TALK_CSV)
    assert figure_of([*series, *series_of([talk])]) == LATENCY, "it is all that the talk's CSV has"
    early = in_figure(series, ACQUIRE)[0]
    assert np.median(early.strategy.samples.latency_ns[500:]) == 717_000
    page = html_page([run_of((EARLY, CLIFF), (BIND, SEARCHED))])
    assert "<h3>Acquire time of each connection</h3>" in page
    assert "Latency as the range fills" not in page


def test_comparison_judges_what_a_program_waits() -> None:
    """A change of bind() alone changes no latency: acquire time and bind() are figures of their own, and decide."""
    slower = bound([2 * ns for ns in CLIFF.prepare_ns.tolist()], CLIFF.connect_ns.tolist())
    base, new = (
        result_of({EARLY: [round_of(made, number) for number in range(1, 6)]}, FEW) for made in (CLIFF, slower)
    )
    [compared] = compare(base, new).strategies
    assert (compared.figures["total"].base, compared.figures["total"].new) == pytest.approx((10_500_000, 10_500_000))
    assert (compared.figures["bind.p50"].base, compared.figures["bind.p50"].new) == pytest.approx((350_500, 701_000))
    assert compare_totals(base.strategies[0], new.strategies[0]).new == pytest.approx(711_500)


def test_sweep_of_early_has_acquire_times() -> None:
    """Its p50 beside that of `bind` would else say that it is the faster one."""
    [early, bind] = run_of((EARLY, CLIFF), (BIND, SEARCHED)).strategies
    assert Figures.of(early.samples).p99_ns == 717_000
    assert Figures.of(bind.samples).p99_ns == 60_000


def test_port_of_early_is_taken_for_every_target() -> None:
    """Two targets have no more ports than one: the knee is at half of the range, and not at half of twice as many."""
    plan = replace(FEW, targets=(Endpoint("127.9.9.2", 9023), Endpoint("127.9.9.3", 9023)))
    made = replace(CLIFF, target=np.arange(1000, dtype="H") % 2)
    knee = find_knee(result_of({EARLY: [round_of(made)]}, plan).strategies[0])
    assert (knee.ports, knee.share) == (1000, 0.5)
