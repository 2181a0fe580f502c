"""The verdict on a run: its sentences for each outcome, and its silence where the run cannot show it."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.gate import evaluate
from connbench.errors import Interrupted
from connbench.findings import Finding, Severity
from connbench.model import (
    Churn,
    Close,
    Endpoint,
    Link,
    Listener,
    Load,
    Loop,
    Namespace,
    Phase,
    Placement,
    Plan,
    PortRange,
    Protocol,
    Reuse,
    RoundPlan,
    Spread,
    StrategySpec,
)
from connbench.report import prometheus, run_report
from connbench.report.markdown import escape
from connbench.report.run_verdict import run_verdict
from connbench.results.result import Origin, Result, Samples
from connbench.samples import GIVEN_UP
from connbench.thresholds import parse
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of

RANGE = StrategySpec("range")
FEW = replace(PLAN, port_range=PortRange(20000, 20999))
"""A plan over 1,000 ports."""

CLIFF = samples_of([5_000] * 500 + [60_000] * 500)
FLAT = samples_of([8_000] * 1000)


def run_of(**measured: Samples) -> Result:
    """A run over 1,000 ports, strategies by name."""
    return result_of({StrategySpec(name): [round_of(samples)] for name, samples in measured.items()}, FEW)


def test_equal_knees_are_reported_once_with_the_times_before_and_after() -> None:
    """The figures of what turned slow and of what did not, in that order, and then the next command."""
    assert run_verdict(run_of(plain=CLIFF, bind=CLIFF, range=FLAT)) == (
        "plain and bind turn slow at connection 501 (50 % of the ports): acquire p50 6 µs before, 61 µs after.",
        "range stays at 9 µs (acquire p50) to the last connection, without an error.",
        "Next: connbench advise -n 1000 --port-range 20000-20999 says which strategy and setting fit such a load.",
    )


def test_a_handshake_of_its_own_does_not_hide_the_search() -> None:
    """In flight over a path of 50 ms, where every connection takes as long: what the program is busy with counts."""
    handshake = [50_000_000] * 1000
    far = replace(CLIFF, handshake_ns=np.array(handshake), acquire_ns=CLIFF.acquire_ns + handshake)
    spec = replace(PLAIN, load=Load(in_flight=100))
    assert run_verdict(result_of({spec: [round_of(far)]}, FEW))[0] == (
        "plain turns slow at connection 501 (50 % of the ports): acquire p50 without the handshake 6 µs before, "
        "61 µs after."
    )


def test_what_has_a_knee_alone_is_to_be_compared() -> None:
    """After plain alone the next command measures a remedy beside it."""
    assert run_verdict(run_of(plain=CLIFF))[-1] == (
        "Next: connbench run --strategy range --strategy window --port-range 20000-20999 shows what helps."
    )


def test_knees_at_different_shares_are_distinguished() -> None:
    """Each with its own place."""
    late = samples_of([5_000] * 700 + [60_000] * 300)
    first = run_verdict(run_of(plain=CLIFF, bind=late))[0]
    assert "plain turns slow at connection 501 (50 % of the ports)" in first
    assert "bind turns slow at connection 701 (70 % of the ports)" in first


def test_turning_slow_among_the_last_ports_is_reported_after_what_matters() -> None:
    """Every strategy finds the last free ports of a range late: that is no cliff at half of the range."""
    late = samples_of([7_000] * 970 + [50_000] * 30)
    assert run_verdict(run_of(random=late, plain=CLIFF, range=late, bind=samples_of([7_000] * 999 + [50_000])))[:2] == (
        "plain turns slow at connection 501 (50 % of the ports): acquire p50 6 µs before, 61 µs after.",
        (
            "bind stays at 8 µs (acquire p50) to the last connection, without an error; random and range stay at 8 µs "
            "(acquire p50) up to connection 971 (97 % of the ports), without an error."
        ),
    )


def test_less_than_all_is_not_rounded_to_all() -> None:
    """99.96 % are not 100 %."""
    samples = samples_of([8_000] * 10_000, errno=[0] * 9_996 + [errno.EADDRNOTAVAIL] * 4)
    plan = replace(PLAN, port_range=PortRange(20000, 29999))
    assert "the first with 99.9 % of the ports in use" in run_verdict(result_of({RANGE: [round_of(samples)]}, plan))[0]


@pytest.mark.parametrize("connections", [100, 500])
def test_less_than_half_of_the_ports_shows_nothing(connections: int) -> None:
    """The run did not show what connect() costs beyond half of the ports: the verdict calls nothing fast."""
    flat = round_of(samples_of([8_000] * connections))
    measured = {StrategySpec(name): [flat] for name in ("plain", "bind", "range")}
    assert run_verdict(result_of(measured, replace(FEW, connections=connections))) == (
        (
            f"range stays at 9 µs (acquire p50) to the last connection ({connections // 10} % of the ports in use), "
            "without an error."
        ),
        (
            f"{connections} connections of 1,000 ports cannot show whether plain and bind turn slow: "
            "connect() turns slow when more than half are in use."
        ),
        "Next: the same with -n 1000, as many connections as there are ports.",
    )


def test_little_more_than_half_is_reported_with_the_number_that_is_needed() -> None:
    """The rolling median needs some connections beyond half: "more than half" would be no reason."""
    few = replace(FEW, connections=503)
    said = run_verdict(result_of({PLAIN: [round_of(samples_of([8_000] * 503))]}, few))
    assert said[0] == "503 connections of 1,000 ports cannot show whether plain turns slow: 506 are needed."


def test_smaller_range_has_a_port_for_each_connection_of_one_source() -> None:
    """Two sources share the connections: a range for all of them would be half empty."""
    plan = replace(PLAN, connections=20_000, sources=("127.9.9.1", "127.9.9.2"))
    samples = samples_of([8_000] * 20_000, source=[0, 1] * 10_000)
    said = run_verdict(result_of({BIND: [round_of(samples)]}, plan))
    assert "--port-range 9024-19023 and without -n" in said[-1]


def test_share_of_a_fill_is_made_larger() -> None:
    """Without -n it would be the same again."""
    filled = replace(PLAIN, load=Load(fill=0.3))
    said = run_verdict(result_of({filled: [round_of(samples_of([8_000] * 300))]}, FEW))
    assert said[-1] == "Next: the same with a larger share, as in --fill 80%."


def test_a_smaller_range_is_as_large_as_what_was_opened() -> None:
    """The command that shows it costs no more than the one that did not."""
    said = run_verdict(result_of({PLAIN: [round_of(samples_of([8_000] * 10_000))]}))
    assert "--port-range 9024-19023" in said[-1]


def test_the_range_that_is_proposed_has_ports_for_a_stride_and_for_the_begin_of_a_list() -> None:
    """The proposed command runs, and its range has as many ports with the remainder as it would have without one."""
    strided = replace(RANDOM, stride=4, residue=1)
    plan = replace(PLAN, strategies=(strided,), connections=500)
    assert RoundPlan(plan, strided, 1).smaller_range == PortRange(9024, 13_023)
    hundred = replace(PLAN, port_range=PortRange(9024, 9123))
    said = run_verdict(result_of({strided: [round_of(samples_of([8_000] * 25, port=range(9025, 9125, 4)))]}, hundred))
    assert "--port-range 9024-13023" in said[-1]
    for first_port, smaller in ((10_023, PortRange(9024, 10_023)), (10_024, None)):
        listed = StrategySpec("sequential", first_port=first_port)
        assert RoundPlan(replace(plan, strategies=(PLAIN, listed)), PLAIN, 1).smaller_range == smaller


def test_the_host_s_range_cannot_be_made_smaller() -> None:
    """There more connections are the way."""
    host = replace(FEW, namespace=Namespace.HOST)
    said = run_verdict(result_of({PLAIN: [round_of(samples_of([8_000] * 100))]}, host))
    assert said[-1] == "Next: the same with -n 1000, as many connections as there are ports."


def test_too_few_connections_for_a_knee_show_nothing() -> None:
    """Not even where they fill their range; the larger one recommended lies below port 65536."""
    ten = replace(PLAN, port_range=PortRange(65_000, 65_009))
    said = run_verdict(result_of({PLAIN: [round_of(samples_of([8_000] * 10))]}, ten))
    assert said[0] == "10 connections of 10 ports cannot show whether plain turns slow: 44 are needed."
    assert "--port-range 64536-65535" in said[1]


def test_growth_without_a_knee_is_no_staying() -> None:
    """`random` waits ever longer in bind(), which the knee of connect() does not show."""
    growing = samples_of([5_000] * 1000, prepare_ns=[1_000] * 900 + [200_000] * 100)
    assert run_verdict(run_of(random=growing))[0] == (
        "random slows down from 6 µs in the first 5 % of the connections to 200 µs in the last 5 % (acquire p50)."
    )


def test_failures_are_reported_with_reason_and_place() -> None:
    """Failures for lack of a port and attempts given up stand apart."""
    numbers = [0] * 850 + [errno.EADDRNOTAVAIL] * 100 + [GIVEN_UP] * 50
    said = run_verdict(run_of(range=samples_of([8_000] * 1000, errno=numbers)))[0]
    assert "stays at 9 µs (acquire p50), " in said
    assert "100 of 1,000 attempts (10.0 %) find no port" in said
    assert "50 of 1,000 attempts (5.0 %) are given up" in said
    assert "the first with 85 % of the ports in use" in said
    assert "without an error" not in said


def test_more_attempts_than_ports_fail_for_that_reason() -> None:
    """No fault of the strategy: every port is in use."""
    numbers = [0] * 1000 + [errno.EADDRNOTAVAIL] * 500
    said = run_verdict(run_of(range=samples_of([8_000] * 1500, errno=numbers)))[0]
    assert said.endswith("500 of 1,500 attempts (33.3 %) find no port, for all ports are in use.")


def test_no_connection_at_all() -> None:
    """Neither fast nor slow; two strategies that fail alike have one sentence."""
    nothing = samples_of([8_000] * 100, errno=[errno.EADDRNOTAVAIL] * 100)
    alone = "none of 100 attempts made a connection (EADDRNOTAVAIL 100)."
    assert run_verdict(run_of(plain=nothing))[0] == f"Do not use these figures: plain: {alone}"
    assert run_verdict(run_of(plain=nothing, bind=nothing)) == (
        f"Do not use these figures: plain and bind: {alone}",
        (
            "Next: no port was free in 20000-20999: choose another --port-range, or find out what uses them; then "
            "measure again."
        ),
    )
    said = run_verdict(run_of(plain=nothing, bind=nothing, range=FLAT))
    assert said[0] == f"Do not use the figures of plain and bind: {alone}"
    assert said[1].startswith("range stays at 9 µs")
    fewer = samples_of([8_000] * 50, errno=[errno.EADDRNOTAVAIL] * 50)
    assert run_verdict(run_of(plain=nothing, bind=fewer, range=FLAT))[0] == (
        "Do not use the figures of plain and bind: plain: none of 100 attempts made a connection "
        "(EADDRNOTAVAIL 100); bind: none of 50 attempts made a connection (EADDRNOTAVAIL 50)."
    )


def test_unusable_figures_are_said_first_and_no_other_is_reported() -> None:
    """An unsound measurement has no result."""
    lost = round_of(CLIFF)
    lost = replace(lost, report=replace(lost.report, counters={"TcpExt.TCPSynRetrans": 3}))
    first, then = run_verdict(result_of({PLAIN: [lost]}, FEW))
    assert first.startswith("Do not use these figures: plain: SYNs were sent again")
    assert then.startswith("Next: find out who drops them")


def test_one_unusable_strategy_leaves_the_others_their_verdict() -> None:
    """Its own figures are not among them."""
    lost = round_of(CLIFF)
    lost = replace(lost, report=replace(lost.report, counters={"TcpExt.TCPSynRetrans": 3}))
    said = run_verdict(result_of({PLAIN: [lost], RANGE: [round_of(FLAT)]}, FEW))
    assert said[0].startswith("Do not use the figures of plain: SYNs were sent again")
    assert said[1].startswith("range stays at 9 µs")
    assert not any("turn" in one for one in said)


def test_a_finding_about_all_makes_all_unusable() -> None:
    """A finding without a strategy is about each."""
    known = (Finding("x", Severity.INVALID, "nothing is right", "stop"),)
    said = run_verdict(result_of({PLAIN: [round_of(CLIFF)]}, FEW, known))
    assert said == ("Do not use these figures: nothing is right.", "Next: stop; then measure again.")


def test_what_was_cut_short_is_to_be_run_again() -> None:
    """Its measured part counts as far as it goes."""
    said = run_verdict(result_of({PLAIN: [round_of(samples_of([8_000] * 400), fault=Interrupted(2))]}, FEW))
    assert "cannot show" in said[0]
    assert said[-1] == "Next: the run was cut short; run it again for the rest."


def test_a_file_that_does_not_tell_the_range_has_no_share() -> None:
    """A CSV: the verdict has a knee that is there; else it says what is unknown."""
    turned = Result(None, {}, (), {PLAIN: [round_of(CLIFF)]}, Origin.TALK_CSV, "a.csv")
    assert run_verdict(turned) == (
        "plain turns slow at connection 501: connect() p50 6 µs before, 61 µs after.",
        "Next: connbench run measures the same on this machine.",
    )
    flat = Result(None, {}, (), {PLAIN: [round_of(FLAT)]}, Origin.TALK_CSV, "a.csv")
    assert run_verdict(flat)[0] == (
        "plain stays at 9 µs (connect() p50) to the last connection, without an error; "
        "the file does not say how many ports there were, so a knee may lie further on."
    )


def test_churn_is_reported_with_how_full_the_range_is() -> None:
    """The replacements, quickest strategy first, and not the filling before them."""
    load = Load(fill=0.8, churn=Churn(100))
    measured = {}
    for spec, level in ((PLAIN, 60_000), (RANGE, 8_000)):
        filled = replace(spec, load=load)
        measured[filled] = [round_of(samples_of([5_000] * 800))]
        measured[replace(filled, phase=Phase.CHURN)] = [round_of(samples_of([level] * 100))]
    said = run_verdict(replace_strategies(result_of(measured, FEW)))
    assert said[2] == (
        "Next: connbench sweep --strategy plain,range --churn 100 --port-range 20000-20999 "
        "shows what each costs as the range fills."
    )
    assert said[:2] == (
        "With 800 of 1,000 ports (80 %) in use a new connection takes 9 µs with range, 61 µs with plain (acquire p50).",
        "No replacement failed.",
    )


@pytest.mark.parametrize(
    ("reuse", "expected"), [(None, "With 10 of 10 ports (100 %) in use"), (Reuse.PORT, "With 20 sockets on 10 ports")]
)
def test_no_more_ports_are_in_use_than_there_are(reuse: Reuse | None, expected: str) -> None:
    """More connections than ports fail, but for UDP sockets that share ports."""
    spec = replace(RANDOM, reuse=reuse, load=Load(protocol=Protocol.UDP, churn=Churn(5)))
    made = {spec: 20, replace(spec, phase=Phase.CHURN): 5}
    rounds = {one: [round_of(samples_of([8_000] * rows, port=[9024] * rows))] for one, rows in made.items()}
    plan = replace(PLAN, strategies=(spec,), connections=20, port_range=PortRange(9024, 9033))
    assert run_verdict(Result(plan, {}, rounds=rounds))[0].startswith(expected)


def test_a_replacement_that_fails_fast_makes_churn_no_faster() -> None:
    """The median is of connections; the failures stand beside it."""
    spec = replace(RANGE, load=Load(fill=0.8, churn=Churn(100)))
    numbers = [errno.EADDRNOTAVAIL] * 60 + [0] * 40
    churned = samples_of([1_000] * 60 + [60_000] * 40, errno=numbers)
    measured = {spec: [round_of(samples_of([5_000] * 800))], replace(spec, phase=Phase.CHURN): [round_of(churned)]}
    said = run_verdict(replace_strategies(result_of(measured, FEW)))
    assert said[0].endswith("a new connection takes 61 µs with range (acquire p50).")
    assert said[1] == "With range, 60 of 100 attempts (60.0 %) find no port."


def replace_strategies(result: Result) -> Result:
    """A churn is a phase of a strategy and no strategy of the plan."""
    assert result.plan
    fills = tuple(spec for spec in result.plan.strategies if spec.phase is Phase.FILL)
    return replace(result, plan=replace(result.plan, strategies=fills))


FULL = replace(FEW, connections=1000)
OVER_VETH = replace(FULL, link=Link.VETH, sources=("198.18.0.1",), targets=(Endpoint("198.19.0.1", 19999),))
HOST = replace(FULL, namespace=Namespace.HOST)
ROUTED = replace(
    FULL,
    sources=("198.18.0.1",),
    targets=(Endpoint("192.0.2.9", 80),),
    listener=Listener.EXTERNAL,
    link=Link.ROUTED,
)


@pytest.mark.parametrize(
    ("load", "plan", "words"),
    [
        (Load(churn=Churn(9)), FULL, "--churn 9 --port-range"),
        (Load(churn=Churn(9, Close.FIN, 50)), FULL, "--churn 9 --churn-rate 50/s --close fin --port-range"),
        (Load(churn=Churn(9), concurrency=2), OVER_VETH, "--churn 9 --concurrency 2 --link veth --port-range"),
        (Load(churn=Churn(9)), replace(OVER_VETH, delay_ms=2.5), "--churn 9 --link veth --delay 2.5ms --port-range"),
        (Load(churn=Churn(9)), replace(FULL, sources=("127.9.9.1", "127.9.9.2")), "--churn 9 --sources 2 --port-range"),
        (
            Load(),
            replace(FULL, connections=2000, sources=("127.9.9.1", "127.9.9.2"), spread=Spread.FILL),
            "--strategy window --sources 2 --spread fill --port-range",
        ),
        (Load(fill=0.85), FULL, "--strategy window --fill 85% --port-range"),
        (Load(give_up_ms=0.5), replace(FULL, timeout=2.5), "--give-up-after 0.5ms --timeout 2.5s --port-range"),
        (Load(), replace(FULL, loop=Loop.PYTHON), "--loop python --port-range"),
        (
            Load(sysctls=("net.ipv4.tcp_rmem=4096 8192 65536", "net.ipv4.tcp_tw_reuse=1")),
            FULL,
            "--sysctl 'net.ipv4.tcp_rmem=4096 8192 65536' --sysctl net.ipv4.tcp_tw_reuse=1 --port-range",
        ),
        (Load(), replace(FULL, ehash_entries=1 << 21), "--strategy window --ehash-entries 2097152 --port-range"),
        (Load(), replace(FULL, connections=800, rounds=3), "--strategy window -n 800 --rounds 3 --port-range"),
        (Load(), replace(FULL, listener=Listener.ACCEPT), "--strategy window --listener accept --port-range"),
        (
            Load(churn=Churn(9, Close.FIN)),
            replace(FULL, listener=Listener.ACCEPT),
            "--churn 9 --close fin --port-range",
        ),
        (Load(), replace(FULL, sources=("127.1.1.7",)), "--strategy window --source 127.1.1.7 --port-range"),
        (
            Load(),
            replace(FULL, connections=4000, sources=("127.1.1.7", "127.1.1.8", "127.1.1.9", "127.2.2.2")),
            "--strategy window --source 127.1.1.7-127.1.1.9,127.2.2.2 --port-range",
        ),
        (
            Load(),
            replace(FULL, sources=("2001:db8::1",), targets=(Endpoint("2001:db8::2", 19999),)),
            "--strategy window --family 6 --port-range",
        ),
        (
            Load(),
            replace(HOST, sources=("127.0.0.1",), targets=(Endpoint("127.0.0.1", 80),), listener=Listener.EXTERNAL),
            "--strategy window --source 127.0.0.1 --target 127.0.0.1:80 shows",
        ),
        (
            Load(),
            replace(HOST, sources=("192.0.2.1",), targets=(Endpoint("192.0.2.9", 80),), listener=Listener.EXTERNAL),
            "--source 192.0.2.1 --target 192.0.2.9:80 --allow-remote shows",
        ),
        (
            Load(),
            ROUTED,
            "--source 198.18.0.1 --target 192.0.2.9:80 --allow-remote --allow-host-route --port-range",
        ),
        (
            Load(),
            replace(FULL, targets=(Endpoint("127.9.9.2", 80), Endpoint("127.9.9.3", 80))),
            "-n 1000 --target 127.9.9.2:80 --target 127.9.9.3:80 --listener backlog --port-range",
        ),
        (Load(), HOST, "--strategy window --isolate never shows"),
    ],
)
def test_next_command_keeps_the_conditions_of_the_run(load: Load, plan: Plan, words: str) -> None:
    """A churn by fin that is repeated by rst has no port in TIME_WAIT, and finds nothing wrong."""
    spec = replace(BIND, load=load)
    rounds = [round_of(CLIFF, number) for number in range(1, plan.rounds + 1)]
    run = result_of(dict.fromkeys(spec.phases, rounds), plan)
    run.plan = replace(plan, strategies=(spec,))
    assert words in run_verdict(run)[-1]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ((WINDOW,), "--strategy window --window 500 --churn 9"),
        ((replace(WINDOW, retries=3), RANDOM), "--strategy window,random --window 500 --retries 3 --churn 9"),
        (
            (StrategySpec("partition", 64), replace(WINDOW, placement=Placement.CLIPPED)),
            "--strategy partition,window --window 64,500 --placement clipped --churn 9",
        ),
        ((StrategySpec("partition", 64), BIND), "--strategy partition,bind --window 64 --churn 9"),
        ((replace(RANDOM, retries=0),), "--strategy random --retries 0 --churn 9"),
        (
            (replace(RANDOM, reuse=Reuse.PORT, stride=8, residue=3), StrategySpec("sequential", first_port=9100)),
            "--strategy random,sequential --reuse-port --stride 8 --residue 3 --from 9100 --churn 9",
        ),
    ],
)
def test_next_command_keeps_the_settings_of_the_strategies(specs: tuple[StrategySpec, ...], words: str) -> None:
    """Windows of 100 are not those of 500."""
    churned = [replace(spec, load=Load(churn=Churn(9))) for spec in specs]
    run = result_of({phase: [round_of(FLAT)] for spec in churned for phase in spec.phases}, FULL)
    run.plan = replace(FULL, strategies=tuple(churned))
    assert words in run_verdict(run)[-1]


def test_addresses_used_up_one_by_one_are_judged_by_the_first() -> None:
    """Each fills a range of its own: half of the ports of all of them mean nothing."""
    plan = replace(FEW, sources=("127.9.9.1", "127.9.9.3"), spread=Spread.FILL)
    both = samples_of(
        ([5_000] * 500 + [60_000] * 500) * 2, source=[0] * 1000 + [1] * 1000, port=[*range(20000, 21000)] * 2
    )
    run = result_of({BIND: [round_of(both)]}, plan)
    said = run_verdict(run)
    assert said[0].startswith("bind turns slow at connection 501 of the first address (50 % of its ports)")
    assert "\nknee: connection 501 of the first address with 50.0% of its range in use, " in run_report.text(run)
    assert "| 501 (50.0%) |" in run_report.markdown(run)
    assert [failure.text for failure in evaluate([parse("knee < 60%")], run)] == ["bind: knee < 60%, measured 50%"]
    [share] = [
        line for line in prometheus.prometheus(run).splitlines() if line.startswith("connbench_knee_used_ratio{")
    ]
    assert share.endswith(" 0.5")


def test_several_rounds_count_together() -> None:
    """The knee is the middle round's, the times are of all of them."""
    rounds = [round_of(samples_of([5_000] * at + [60_000] * (1000 - at)), i) for i, at in enumerate((498, 500, 502), 1)]
    said = run_verdict(result_of({PLAIN: rounds}, FEW))
    assert said[0] == ("plain turns slow at connection 501 (50 % of the ports): acquire p50 6 µs before, 61 µs after.")


def test_a_sweep_has_a_verdict_of_its_own() -> None:
    """The verdict on a run does not suit combined settings and loads."""
    specs = [replace(WINDOW, window=window, load=Load(fill=fill)) for window in (100, 500) for fill in (0.5, 0.9)]
    assert run_verdict(result_of({spec: [round_of(FLAT)] for spec in specs}, FEW)) == ()


def test_nothing_measured_has_no_verdict() -> None:
    """There is no sentence without a figure."""
    assert run_verdict(Result(FEW, {})) == ()


@pytest.mark.parametrize("measured", [{"plain": CLIFF}, {"range": FLAT, "random": CLIFF}])
def test_text_ends_with_the_verdict_and_markdown_begins_with_it(measured: dict[str, Samples]) -> None:
    """A terminal shows the end of a text first, a page its beginning."""
    result = run_of(**measured)
    said = run_verdict(result)
    assert run_report.text(result).splitlines()[-len(said) :] == [f"verdict: {said[0]}", *said[1:]]
    document = run_report.markdown(result)
    places = [document.index(escape(one)) for one in said]
    assert places == sorted(places)
    assert places[-1] < document.index("| strategy")
