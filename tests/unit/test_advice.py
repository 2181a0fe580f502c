"""Advice: what is worked out of a number, a rate and a range, and what it says to do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from textwrap import indent
from typing import Any

import click
import pytest

from connbench.advice.advice import advise, snippets_for
from connbench.advice.kernels import kernel_of, read_kernel
from connbench.advice.scenario import Advice, AdviceItem, Arrivals, Candidate, Scenario, Slo
from connbench.advise.command import HOLD, RATE
from connbench.advise.report import LANGUAGES, KernelText, text
from connbench.advise.report import json as advice_json
from connbench.errors import ConnbenchError, UsageError
from connbench.linux import sysctl
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Namespace, PortRange, Protocol, StrategySpec
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL, USUAL_UDP
from connbench.strategies import RANDOM, STRATEGIES
from connbench.units import duration
from run_connbench import invoke

KERNEL = KernelText("Linux 6.12", "this host")


def options_of(release: str) -> frozenset[str]:
    """Names of the options that a kernel has."""
    kernel = kernel_of(release)
    assert kernel
    return kernel.options


ALL_OPTIONS = options_of("6.12")
SCENARIO = Scenario(
    connections=900,
    ports=PortRange(40000, 41999),
    sources=1,
    options=ALL_OPTIONS,
    algorithm=Algorithm.FROM_6_8,
    budget=0.01,
    slo=None,
    calibration=USUAL,
)
"""900 of 2,000 ports: below half."""


def item(advice: Advice, topic: str) -> AdviceItem:
    """The one of a topic."""
    [found] = [one for one in advice.items if one.topic == topic]
    return found


def candidates(advice: Advice) -> dict[str, Candidate]:
    """What was tried, by label."""
    return {one.spec.label: one for one in advice.candidates}


def test_below_half_every_strategy_does() -> None:
    """The knee is at half the range and not reached; plain keeps the budget and costs what the others do."""
    advice = advise(SCENARIO)
    assert item(advice, "ports").line == "900 of 2,000 ports are in use, 45.0%"
    assert item(advice, "knee").line == "the knee of plain is at 1,001 ports in use, 900 are 90.0% of it"
    assert advice.verdict[1] == "900 of 2,000 ports are in use, 45.0%; the knee is at 1,001."
    assert candidates(advice)["plain"].is_kept
    assert candidates(advice)["plain"].mean_ns == pytest.approx(USUAL.base_ns[0], rel=0.05)
    assert {one.topic for one in advice.items} & {"exhaustion", "time-wait", "sources"} == set()


def test_past_half_plain_misses_the_slo_that_range_keeps() -> None:
    """1,800 of 2,000: plain walks a thousand ports in vain, 44 µs; the option does without."""
    advice = advise(replace(SCENARIO, connections=1800, slo=Slo.parse("p50 < 20us")))
    found = candidates(advice)
    assert not found["plain"].keeps_slo
    assert found["plain"].keeps_budget
    assert found["range"].is_kept
    assert "here 1,800 are, beyond it" in item(advice, "knee").line
    assert "beyond the knee at 1,001: plain takes " in advice.verdict[1]
    assert item(advice, "use").line.split()[1] in {"range", "random", "window"}
    assert advice.is_kept


def test_early_bind_is_told_to_set_one_option() -> None:
    """bind() takes its ports for both targets, so they share 2,000; connect() would have 2,000 for each."""
    advice = advise(replace(SCENARIO, connections=1800, targets=2, today=STRATEGIES["early"]))
    assert (
        advice.verdict[0] == "You bind early: set one more option before bind(), IP_BIND_ADDRESS_NO_PORT (Linux 4.2)."
    )
    assert advice.verdict[1] == "Today bind() takes each port for every target, and 1,800 of 2,000 are in use."
    assert "probes 1,000 ports in vain" in item(advice, "today-search").line
    late = item(advice, "bind-late")
    assert set(late.code) == {"Python", "C", "Go"}
    assert all(" 24, 1)" in code or " 24, &one" in code for code in late.code.values())
    assert not any("LOCAL_PORT_RANGE" in code for code in late.code.values())
    assert "plain" not in candidates(advice), "plain cannot name its source"
    assert candidates(advice)["bind"].is_kept
    early_ns, bind_ns = (candidates(advice)[name].mean_ns for name in ("early", "bind"))
    assert early_ns > 2 * bind_ns, "bind() searches in vain; the two targets of connect() are below their knees"
    assert advice.candidates[-1].spec.name == "early", "it is shown, and not advised"


def test_early_bind_of_an_old_kernel_has_no_option_to_set() -> None:
    """Linux 4.1 leaves a program random ports, or the source to the kernel."""
    advice = advise(replace(SCENARIO, options=frozenset(), algorithm=Algorithm.PRE_4_2, today=STRATEGIES["early"]))
    assert advice.verdict[0] == "You bind early, and IP_BIND_ADDRESS_NO_PORT needs Linux 4.2."
    assert set(candidates(advice)) == {"random"}


def test_early_bind_may_need_more_ports_than_there_are() -> None:
    """Four targets share the ports of a source only as long as bind() takes them; a TIME_WAIT of 60 s comes on top."""
    load = replace(SCENARIO, connections=1900, targets=4, arrivals=Arrivals(5, None), today=STRATEGIES["early"])
    advice = advise(load)
    assert item(advice, "today").line.endswith("2,200 are needed of 2,000")
    assert "stays in TIME_WAIT for 60 s" in item(advice, "today").reason
    assert advice.is_kept


def test_list_of_ports_is_counted_in_calls() -> None:
    """With nine tenths in use one port in ten is free; a list begun anew meets all that are in use."""
    advice = advise(replace(SCENARIO, connections=1800, today=STRATEGIES["sequential"]))
    assert "about 10.0 bind() calls" in item(advice, "today-list").line
    assert item(advice, "today-list").reason.endswith("1,801")
    assert "EADDRNOTAVAIL" in item(advice, "today-reuse").reason
    assert not {"today-search", "bind-late"} & {one.topic for one in advice.items}


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_connect_that_chooses_the_port_needs_no_word(name: str) -> None:
    """Where connect() chooses the port already, nothing is said of today."""
    advice = advise(replace(SCENARIO, today=STRATEGIES[name]))
    assert not [one for one in advice.items if one.topic.startswith(("today", "bind-late"))]


def test_today_early_is_of_tcp() -> None:
    """UDP's bind() to port 0 always chooses the port: there is nothing to defer."""
    with pytest.raises(UsageError, match="--today early goes with TCP"):
        invoke("advise", "-n", "100", "--protocol", "udp", "--today", "early")


def test_without_the_option_no_window_is_advised() -> None:
    """A kernel before 6.3 has no IP_LOCAL_PORT_RANGE: plain, bind and random are all there is."""
    advice = advise(replace(SCENARIO, connections=1800, options=options_of("5.10"), algorithm=Algorithm.PRE_6_8))
    assert set(candidates(advice)) == {"plain", "random"}
    assert "Linux has it from 6.3 on" in item(advice, "kernel").reason
    below = item(advice, "below-knee")
    assert below.line.endswith("bind, from 2 addresses in turn")
    assert below.code["nginx"].count("192.0.2.") == 2
    assert "IP_LOCAL_PORT_RANGE" not in "".join(item(advice, "use").code.values())
    assert options_of("4.1") == frozenset()
    assert options_of("6.3") == ALL_OPTIONS


def test_windows_are_the_smallest_that_keep_the_budget() -> None:
    """At 80 % a window of 16 fails too often by itself; a larger one keeps it; at 90 % a small one does by retries."""
    wide = replace(SCENARIO, connections=8000, ports=PortRange(20000, 29999))
    found = [one for label, one in candidates(advise(wide)).items() if "window" in label]
    alone = next(one for one in found if not one.spec.retries)
    assert alone.keeps_budget
    assert (alone.spec.window or 0) > 16
    loose = candidates(advise(replace(wide, budget=1.0)))
    assert "window 16" in loose
    strict = candidates(advise(replace(wide, connections=9000, budget=0.001)))
    retried = [one for one in strict.values() if one.spec.retries]
    assert retried
    assert all(one.errors <= 0.001 and one.tries > 1 for one in retried)


def test_more_connections_than_ports_need_more_sources() -> None:
    """5,000 of 2,000 ports take three addresses; what is then used is simulated with them."""
    advice = advise(replace(SCENARIO, connections=5000))
    assert advice.candidates == ()
    assert not advice.is_kept
    sources = item(advice, "sources")
    assert sources.line == "use 3 source addresses instead of 1"
    assert "5,000 ports are needed, and there are 2,000" in sources.reason
    assert "from 3 addresses in turn" in item(advice, "use").line
    assert "192.0.2.3" in item(advice, "use").code["Python"]


def test_slo_without_the_option_takes_sources_below_half() -> None:
    """On an old kernel bind is quick below half of each address, and not up to its end: four would be at 97 % of it."""
    old = replace(
        SCENARIO,
        connections=3900,
        options=options_of("5.10"),
        algorithm=Algorithm.PRE_6_8,
        slo=Slo.parse("mean < 13.5us"),
    )
    advice = advise(old)
    assert item(advice, "sources").line == "use 5 source addresses instead of 1"
    assert "nginx" in item(advice, "use").code


def test_nothing_that_keeps_is_said() -> None:
    """A connect() costs more than an SLO of 1 µs, whatever the strategy."""
    advice = advise(replace(SCENARIO, slo=Slo.parse("p99 < 1us")))
    found = item(advice, "sources")
    assert found.line == "no strategy keeps to 1.00% errors and p99 < 1us with 2, 3, 4 or 5 source addresses"
    assert not any(one.topic == "use" for one in advice.items)


def test_kernel_that_can_do_nothing_of_it_is_reported() -> None:
    """Before 4.2 nothing binds to a source alone, and reserved ports may leave random too few in a row: so it says."""
    asked = replace(
        SCENARIO,
        connections=140,
        ports=PortRange(20000, 20199),
        sources=2,
        options=frozenset(),
        algorithm=Algorithm.PRE_6_8,
        reserved=frozenset(range(20050, 20151)),
    )
    advice = advise(asked)
    assert advice.candidates == ()
    found = item(advice, "sources")
    assert found.line == "use 3 source addresses instead of 2"
    assert "random needs 70 ports in a row that are not reserved: there are 50" in found.reason


def test_more_sources_than_are_tried_are_reported() -> None:
    """A million connections of two ports take half a million addresses: that is said, and not that nothing does."""
    found = item(advise(replace(SCENARIO, connections=1_000_000, ports=PortRange(40000, 40001))), "sources")
    assert found.line == "the load needs 500,000 source addresses or more"


def test_knee_is_named_of_every_strategy_that_has_it() -> None:
    """From 6.3 until 6.8 the option's range has the two-parity walk too; of several sources plain has no choice."""
    lines = {}
    for kernel, algorithm in (
        ("3.10", Algorithm.PRE_4_2),
        ("4.4", Algorithm.FROM_4_2),
        ("6.5", Algorithm.PRE_6_8),
        ("6.12", Algorithm.FROM_6_8),
    ):
        found = [one.line for one in advise(replace(SCENARIO, algorithm=algorithm)).items if one.topic == "knee"]
        lines[kernel] = [line.partition(" is at")[0] for line in found]
    assert lines == {
        "3.10": [],
        "4.4": [],
        "6.5": ["the knee of plain and range"],
        "6.12": ["the knee of plain"],
    }
    assert item(advise(replace(SCENARIO, sources=2)), "knee").line.startswith("the knee of bind is at 2,001")


def test_plain_is_advised_where_it_does_as_well() -> None:
    """Of strategies within a twentieth of the quickest, the one that asks least of a program: below the knee, plain."""
    advice = advise(replace(SCENARIO, connections=400))
    assert item(advice, "use").line == "use plain (connect() alone)"
    assert not item(advice, "use").code
    assert not any(one.topic == "without-option" for one in advice.items)
    assert advise(replace(SCENARIO, connections=1800)).candidates[0].spec.name == "range"


ISSUED = replace(SCENARIO, ports=PortRange(32768, 60999))
"""28,232 ports; the knee is at 14,117."""


def arriving(rate: float, hold: float = 0.085, **changes: Any) -> Scenario:  # noqa: ANN401  # any field of Scenario
    """So many a second over the usual range, from a client that closes first unless that is changed."""
    arrivals = Arrivals(rate, hold)
    return replace(ISSUED, connections=arrivals.at_once, arrivals=arrivals, **changes)


@pytest.mark.parametrize("is_loopback", [True, False])
@pytest.mark.parametrize("reuse", [0, 1, 2])
@pytest.mark.parametrize("client_closes", [True, False])
@pytest.mark.parametrize(("rate", "at_once"), [(331, 29), (670, 57), (8000, 680), (14_340, 1219)])
def test_ports_in_time_wait_are_taken(
    rate: int, at_once: int, client_closes: bool, reuse: int, is_loopback: bool
) -> None:
    """Where the client closes first for 60 s each, and for a second where tcp_tw_reuse lets connect() have them."""
    asked = arriving(rate, client_closes=client_closes, time_wait=TimeWait(reuse), is_loopback=is_loopback)
    seconds = 0 if not client_closes else 1 if reuse == 1 or (reuse == 2 and is_loopback) else 60
    assert (asked.ports_in_use(), asked.in_time_wait()) == (at_once + rate * seconds, rate * seconds)
    assert asked.in_time_wait(RANDOM) == (rate * 60 if client_closes else 0)
    assert asked.fits() == (at_once + rate * seconds <= 28_232)


def test_time_wait_takes_plain_past_its_knee() -> None:
    """331/s of 85 ms are 29 connections, and 19,860 ports in TIME_WAIT: plain walks half of the range each time."""
    advice = advise(arriving(331, slo=Slo.parse("mean < 100us")))
    found = candidates(advice)
    assert found["plain"].mean_ns > 10 * USUAL.base_ns[0]
    assert not found["plain"].keeps_slo
    assert found["range"].is_kept
    assert found["random"].tries == pytest.approx(28_232 / (28_232 - 19_889), rel=0.05)
    assert item(advice, "ports").line == "19,889 of 28,232 ports are in use, 70.4%"
    assert "beyond the knee at 14,117: plain takes " in advice.verdict[1]
    assert "if the server closes first, 29 ports are in use" in item(advice, "time-wait").line
    assert item(advice, "time-wait").line.endswith("with net.ipv4.tcp_tw_reuse=1, 360")
    assert "exhaustion" not in {one.topic for one in advice.items}


@pytest.mark.parametrize(
    ("rate", "seconds", "sources", "reused"),
    [
        (670, "42.1", 2, 727),
        pytest.param(8000, "3.5", 18, 8680, marks=pytest.mark.slow),
        pytest.param(14_340, "2.0", 31, 15_559, marks=pytest.mark.slow),
    ],
)
def test_time_wait_uses_the_ports_up(rate: int, seconds: str, sources: int, reused: int) -> None:
    """It is said when, and what does with that; never that it does not come to it."""
    advice = advise(arriving(rate))
    assert advice.candidates == ()
    assert advice.verdict[0] == f"At {rate:,}/s all 28,232 ports are in use after {seconds} s."
    assert advice.verdict[1].startswith(f"Use {sources} source addresses instead of 1.")
    assert advice.verdict[2].endswith(f"net.ipv4.tcp_tw_reuse=1, {reused:,}.")
    assert advice.sufficient
    assert advice.sufficient.sources == sources


@pytest.mark.parametrize(
    "changes",
    [{"client_closes": False}, {"is_loopback": True}, {"time_wait": TimeWait(1)}],
    ids=lambda one: next(iter(one)),
)
def test_without_time_wait_plain_does(changes: dict[str, Any]) -> None:
    """At 331/s plain is as quick as ever where the server closes first, and where ports are in use again."""
    advice = advise(arriving(331, **changes))
    assert advice.candidates[0].spec.name == "plain"
    assert advice.candidates[0].mean_ns == pytest.approx(USUAL.base_ns[0], rel=0.02)


def test_no_more_are_in_time_wait_than_may_be() -> None:
    """tcp_max_tw_buckets: at 8,000/s with 131,072 of them five sources do, where 480,000 would take eighteen."""
    advice = advise(arriving(8000, time_wait=TimeWait(most=131_072)))
    assert advice.scenario.ports_in_use() == 131_752
    assert advice.sufficient
    assert advice.sufficient.sources == 5
    assert "131,072 in TIME_WAIT (8,000/s x 60 s, cut to net.ipv4.tcp_max_tw_buckets)" in item(advice, "ports").reason
    assert arriving(331, time_wait=TimeWait(most=131_072)).in_time_wait() == 19_860


def test_what_leaves_too_few_ports_is_no_remedy() -> None:
    """40,000 are open of 28,232 ports: neither who closes first nor tcp_tw_reuse changes that."""
    advice = advise(arriving(1000, 40))
    assert "time-wait" not in {one.topic for one in advice.items}
    assert len(advice.verdict) == 2


def test_reuse_does_not_help_random() -> None:
    """14,340/s with tcp_tw_reuse=1 are past plain's knee and leave random out: bind() waits for the whole minute."""
    advice = advise(arriving(14_340, time_wait=TimeWait(1)))
    assert set(candidates(advice)) >= {"plain", "range"}
    assert "random" not in candidates(advice)
    assert "it needs 861,619 ports, and there are 28,232" in item(advice, "random").line
    assert "here 15,559 are, beyond it" in item(advice, "knee").line


def test_ports_are_used_up_where_connections_are_held() -> None:
    """2,000 ports at 10/s last 200 s; other connections than the arrivals take their part of it."""
    held = replace(SCENARIO, connections=3000, arrivals=Arrivals(10, 300), client_closes=False)
    assert advise(held).verdict[0] == "At 10/s all 2,000 ports are in use after 200.0 s."
    assert item(advise(held), "exhaustion").reason.startswith("each connection keeps its port for 300 s open; ")
    beside = replace(SCENARIO, connections=1500, arrivals=Arrivals(10, 120))
    assert advise(beside).verdict[0] == "At 10/s all 2,000 ports are in use after 170.0 s."
    unknown = replace(SCENARIO, connections=1500, arrivals=Arrivals(10, None))
    assert advise(unknown).verdict[0] == "At 10/s all 2,000 ports are in use after 50.0 s."
    assert "exhaustion" not in {one.topic for one in advise(replace(SCENARIO, arrivals=Arrivals(10, 90))).items}


def test_each_target_has_ports_of_its_own() -> None:
    """But with random, whose bind() takes a port for all of them, and with UDP."""
    five = replace(ISSUED, connections=40_000, targets=5)
    assert (five.capacity(), five.capacity(RANDOM), five.in_use_each(), five.in_use_each(RANDOM)) == (
        141_160,
        28_232,
        8000,
        40_000,
    )
    advice = advise(five)
    assert advice.candidates[0].spec.name == "plain"
    assert "random" not in candidates(advice)
    assert "the knee of plain is at 70,581 ports in use, 40,000 are 56.7% of it" in item(advice, "knee").line
    udp = replace(five, protocol=Protocol.UDP, calibration=USUAL_UDP)
    assert (udp.capacity(), udp.in_time_wait()) == (28_232, 0)
    assert advise(udp).verdict[0] == "40,000 ports are needed, and there are 28,232."


def test_udp_has_no_knee_and_no_time_wait() -> None:
    """Its search has no parities; a closed socket's port is free at once, whichever end closes first."""
    asked = replace(arriving(331), connections=20_000, protocol=Protocol.UDP, calibration=USUAL_UDP)
    advice = advise(asked)
    assert asked.ports_in_use() == 20_000
    assert {one.topic for one in advice.items}.isdisjoint({"knee", "time-wait"})
    assert set(candidates(advice)) >= {"plain", "range", "random"}
    printed = text(advice, KERNEL, 80)
    assert "UDP's search" in printed
    assert "closing" not in printed


def test_random_takes_as_many_tries_as_few_ports_are_free() -> None:
    """At 90 % the last tries are one in ten: as it replaces connections it draws ten times."""
    found = candidates(advise(replace(SCENARIO, connections=1800)))["random"]
    assert found.tries == pytest.approx(10, rel=0.15)


def test_figures_are_written_one_way() -> None:
    """Times have three digits and a unit, wherever they stand; more than all ports are a multiple of the ports."""
    advice = advise(replace(SCENARIO, connections=1800, slo=Slo.parse("p99 < 1ms")))
    use = next(one for one in advice.candidates if one.is_kept)
    assert f"{duration(use.mean_ns)} an attempt, p99 {duration(use.slo_ns)}" in item(advice, "use").reason
    dear = replace(USUAL, port_ns=(4000.0,) * 4, new_port_ns=(4000.0,) * 4)
    advice = advise(replace(SCENARIO, connections=1800, calibration=dear))
    assert item(advice, "knee").reason.endswith("in vain: 4.00 ms")
    assert item(advise(replace(SCENARIO, connections=5000)), "ports").line.endswith("2.5 times as many as there are")


def test_rate_times_hold_has_no_noise() -> None:
    """0.1/s for 30 s are three connections, not four; a part of one is one."""
    assert [Arrivals(0.1, 30).at_once, Arrivals(0.11, 30).at_once, Arrivals(0.001, 1).at_once] == [3, 4, 1]
    assert Arrivals(5, None).at_once == 0


def test_sources_advised_have_a_table_of_their_own() -> None:
    """Where the ports do not suffice, the table shows each strategy with the addresses that do."""
    advice = advise(replace(SCENARIO, connections=5000))
    assert advice.sufficient is not None
    assert advice.sufficient.sources == 3
    printed = text(advice, KERNEL)
    table = printed.partition("with 3 source addresses:\n")[2].partition("\n\n")[0]
    assert {line.split()[0] for line in table.splitlines()} >= {"strategy", "bind", "range", "random"}
    document = json.loads(advice_json(advice, KERNEL))
    assert document["strategies"] == []
    assert document["with_sources"]["sources"] == 3
    assert advise(SCENARIO).sufficient is None


def test_code_is_short_and_stands_once() -> None:
    """Many addresses are counted, not listed, but in nginx, which has to."""
    advice = advise(replace(SCENARIO, connections=100_000))
    printed = text(advice, KERNEL, languages=LANGUAGES)
    blocks = [one.code[language] for one in advice.items for language in one.code]
    assert max(map(len, blocks[0].splitlines())) < 100
    assert set(item(advice, "below-knee").code) == {"nginx"}
    for block in blocks:
        assert printed.count(indent(block.rstrip("\n"), "    ")) == 1
    old = replace(SCENARIO, connections=3000, options=options_of("5.10"), slo=Slo.parse("mean < 13.5us"))
    twice = advise(old)
    shared = set(item(twice, "use").code.values()) & set(item(twice, "below-knee").code.values())
    assert len(shared) == 1
    assert text(twice, KERNEL, languages=("nginx",)).count("split_clients") == 1


def test_reserved_ports_are_nobodys() -> None:
    """NodePorts within the range: less capacity, an earlier knee, and no code that binds to one of them."""
    reserved = replace(SCENARIO, connections=1800, reserved=frozenset(range(40000, 40301)))
    assert (reserved.unreserved, reserved.first_parity, reserved.longest_unreserved) == (
        1699,
        849,
        PortRange(40301, 41999),
    )
    assert advise(reserved).candidates == ()
    assert item(advise(reserved), "sources").reason.startswith("1,800 ports are needed, and there are 1,699")
    advice = advise(replace(reserved, connections=1600))
    assert item(advice, "ports").line == f"1,600 of 1,699 ports are in use, {1600 / 1699:.1%}"
    assert item(advice, "knee").line == "the knee of plain is at 850 ports in use, here 1,600 are, beyond it"
    assert candidates(advice)["random"].tries == pytest.approx(1699 / 100, rel=0.2)
    assert "random.randint(40301, 41999)" in snippets_for(reserved, StrategySpec("random"))["Python"]
    assert "range 40000-41999 (301 of its ports reserved)" in text(advice, KERNEL)


def test_reserved_ports_are_the_hosts_or_those_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sysctl of this host counts where its kernel does; a named kernel has none but those of the option."""
    monkeypatch.setattr(
        sysctl, "read_all", lambda names: dict.fromkeys({sysctl.RESERVED_PORTS} & set(names), "40000-40099,41000")
    )
    seen = []
    for more in ((), ("--kernel", "6.12"), ("--kernel", "6.12", "--reserved-ports", "40007"), ("--reserved-ports", "")):
        invoke("advise", "-n", "500", "--port-range", "40000-40999", "--format", "json", *more)
        seen.append(json.loads(capsys.readouterr().out)["reserved"])
    assert seen == [100, 0, 1, 0]


def test_random_draws_no_longer_than_its_code() -> None:
    """To replace connections of a full range takes as many draws as it has ports: those are given up as in the code."""
    full = replace(SCENARIO, connections=6000, ports=PortRange(40000, 45999))
    found = candidates(advise(full))["random"]
    assert found.errors > 0
    assert found.tries < 300
    assert "tries=1000" in snippets_for(full, StrategySpec("random"))["Python"]
    assert "random" not in candidates(advise(replace(full, connections=5000, reserved=frozenset({43000}))))


SCREENS = {
    "plenty": replace(ISSUED, connections=25_000, slo=Slo.parse("p99 < 1ms")),
    "TIME_WAIT": arriving(331, slo=Slo.parse("p99 < 1ms")),
    "used up": arriving(8000),
    "reused": arriving(14_340, time_wait=TimeWait(1)),
    "loopback": arriving(331, is_loopback=True),
    "server": arriving(670, client_closes=False),
    "targets": replace(ISSUED, connections=40_000, targets=5),
    "old": replace(ISSUED, connections=20_000, options=options_of("5.10"), algorithm=Algorithm.PRE_6_8),
    "UDP": replace(ISSUED, connections=20_000, protocol=Protocol.UDP, calibration=USUAL_UDP),
}


@pytest.mark.parametrize("name", SCREENS)
def test_advice_fits_a_screen(name: str) -> None:
    """24 lines of 80 columns, one of them the prompt's, and what to do stands at the top; the code is not there yet."""
    advice = advise(replace(SCREENS[name], is_here=True))
    lines = text(advice, KernelText("Linux 6.18.44-cloud-amd64 (probed)", "this host"), 80).splitlines()
    assert len(lines) <= 23
    assert max(len(line) for line in lines if not line.startswith("Next: ")) <= 80
    assert re.match(r"Use |At [\d,]+/s all ", lines[0])
    assert "import " not in "\n".join(lines)
    assert any(line.startswith("asked    ") for line in lines)


def test_code_stands_below_all_else() -> None:
    """As many languages as were asked for; pages of them do not part one advice from the next."""
    advice = advise(replace(SCENARIO, connections=1800))
    by_code = {code: f"{language}: {one.line}" for one in reversed(advice.items) for language, code in one.code.items()}
    codes = [f"{language}: {one.line}" for one in advice.items for language in one.code]
    codes = [line for line in codes if line in by_code.values()]  # the same code stands once
    assert {code.partition(":")[0] for code in codes} == {"Python", "C", "Go", "nginx", "haproxy"}
    lines = text(advice, KERNEL, languages=LANGUAGES).splitlines()
    assert [line for line in lines if line in codes] == codes
    assert max(i for i, line in enumerate(lines) if line.startswith("- ")) < lines.index(codes[0])
    of_two = text(advice, KERNEL, languages=("c", "nginx")).splitlines()
    assert [line for line in of_two if line in codes] == [c for c in codes if c.startswith(("C: ", "nginx: "))]
    assert text(advice, KERNEL).splitlines()[-1] == "code to paste: --code python | c | go | nginx | haproxy"


def test_code_is_part_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """One language may be asked for, and its want is told; JSON has all of them and takes no choice."""
    asked = ("advise", "-n", "1800", "--port-range", "40000-41999", "--kernel", "6.12", "--code", "go")
    invoke(*asked)
    printed = capsys.readouterr().out
    assert "net.Dialer" in printed
    assert "import socket" not in printed
    invoke("advise", "-n", "95", "--port-range", "20000-20199", "--kernel", "6.12", "--code", "nginx")
    assert capsys.readouterr().out.splitlines()[-1].startswith("no code for nginx: the advised strategy needs none")
    with pytest.raises(UsageError, match="--code"):
        invoke(*asked, "--format", "json")


def test_rate_and_hold_make_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    """10/s for 2 minutes are 1,200 at once; a named kernel is asked by its version, not by this one."""
    invoke(
        "advise", "--rate", "10/s", "--hold", "2m", "--kernel", "6.1", "--port-range", "40000-41999", "--format", "json"
    )
    document = json.loads(capsys.readouterr().out)
    assert document["connections"] == 1200
    assert document["options"] == ["IP_BIND_ADDRESS_NO_PORT"]
    assert document["algorithm"] == "pre-6.8"
    assert document["kept"]
    assert {one["topic"] for one in document["advice"]} >= {"ports", "time-wait", "knee", "use"}
    assert (document["time_wait"], document["ports_in_use"]) == ({"seconds": 60.0, "ports": 600}, 1800)
    assert (document["rate_per_s"], document["hold_s"], document["closes_first"]) == (10.0, 120.0, "client")
    assert document["verdict"][0].startswith("Use ")


def test_here_the_kernel_is_probed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --kernel the host's range and the running kernel count."""
    invoke("advise", "-n", "100")
    out = capsys.readouterr().out
    assert f"100 open at once; one source, one target, range {'-'.join(map(str, sysctl.read_port_range()))}" in out


@pytest.mark.parametrize("goes_first", [True, False])
def test_search_is_probed_and_not_taken_from_the_release(
    goes_first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backport behaves as a later kernel; --algorithm has the last word, and the older search the older costs."""
    monkeypatch.setattr("connbench.advice.kernels.searches_one_parity_first", lambda: goes_first)
    monkeypatch.setattr("connbench.advice.kernels.is_supported", lambda _: True)
    monkeypatch.setattr("platform.release", lambda: "6.17.0" if goes_first else "6.1.0-backported")
    asked = ("advise", "-n", "500", "--port-range", "40000-40999")
    invoke(*asked)
    out = capsys.readouterr().out
    assert "(probed): the search of Linux " + ("4.6 to 6.7" if goes_first else "6.8 and later") in out
    invoke(*asked, "--format", "json", "--algorithm", "pre-6.8")
    document = json.loads(capsys.readouterr().out)
    assert (document["algorithm"], document["calibration"]["port_ns"]) == ("pre-6.8", [80.0, 160.0, 170.0])


@pytest.mark.skipif(not is_supported(LOCAL_PORT_RANGE), reason="without the option there is nothing to probe")
def test_release_stands_in_where_nothing_can_be_probed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no namespace can be made the search is the release's, and that is said."""
    monkeypatch.setattr("connbench.linux.port_search.best_namespace", lambda: (Namespace.HOST, "not allowed"))
    invoke("advise", "-n", "500", "--port-range", "40000-40999")
    assert "(by its release: connbench cannot probe it here)" in capsys.readouterr().out


@pytest.mark.parametrize(("asked", "number"), [("900", 1200), ("1500", 1500)])
def test_more_of_number_and_flow_counts(asked: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """10/s for 2 minutes are 1,200 at once, whether 900 were asked for or not; where 1,500 were, both are told."""
    invoke("advise", "-n", asked, "--rate", "10/s", "--hold", "2m", "--port-range", "40000-41999")
    out = capsys.readouterr().out
    law = "10/s x 120 s"
    said = f"({law})" if number == 1200 else f"(-n; {law} are 1,200)"
    assert f"asked    {number:,} open at once {said}, 600 in TIME_WAIT" in out


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "nothing says how many"),
        (["--hold", "2m"], "--hold does nothing without --rate"),
        (["--rate", "5/s"], "nothing says how many"),
        (["--rate", "1000000/s", "--hold", "1h"], "3,600,000,000 connections"),
        (["-n", "5", "--slo", "quick"], "--slo 'quick' is not"),
        (["-n", "5", "--slo", "p99 < 0ms"], "no connection takes so little"),
        (["-n", "5", "--slo", "p99 < -1ms"], "is not STATISTIC < TIME"),
        (["-n", "5", "--backported", "IP_LOCAL_PORT_RANGE"], "--backported does nothing without --kernel"),
        (["-n", "5", "--protocol", "udp", "--algorithm", "6.8"], "--algorithm names a search of connect()"),
        (["-n", "5", "--targets", "2", "--target", "127.0.0.1:80"], "--target and --targets both set"),
        (["-n", "5", "--target", "127.0.0.1"], "has no port"),
        (["-n", "5", "--kernel", "new"], "--kernel 'new' is not a release of Linux"),
        (["-n", "5", "--kernel", ""], "--kernel '' is not a release of Linux"),
        (["-n", "5", "--port-range", "7-7"], "is one port"),
        (["-n", "5", "--reserved-ports", "80,9-8"], "reserved ports '80,9-8': '9-8' is neither"),
        (["-n", "5", "--port-range", "70-80", "--reserved-ports", "1-99"], "all ports of 70-80 are reserved"),
        (["-n", "5", "--calibrate", "missing.json"], "missing.json cannot be read"),
    ],
)
def test_faults_name_the_remedy(arguments: list[str], fault: str) -> None:
    """What cannot be advised on is refused in a line that names it, with a hint."""
    with pytest.raises(ConnbenchError, match=fault) as raised:
        invoke("advise", *arguments)
    assert raised.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        ["--slo", "p99 < 1"],
        ["--calibrate", "missing.json"],
        ["--kernel", "new"],
        ["--target", "127.0.0.1"],
        ["--tcp-tw-reuse", "3"],
        ["--rate", "x"],
        ["--port-range", "9-8"],
    ],
    ids=lambda words: words[0],
)
def test_faults_are_found_before_the_kernel_is_probed(wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong word costs no namespace."""

    def refuse() -> None:
        raise AssertionError("the kernel is probed")

    monkeypatch.setattr("connbench.advice.kernels.searches_one_parity_first", refuse)
    with pytest.raises((ConnbenchError, click.UsageError)):
        invoke("advise", "-n", "500", *wrong)


def test_limit_itself_keeps_an_slo_that_says_so() -> None:
    """`<=` and `<` differ by the limit alone."""
    below, within = Slo.parse("p99 < 1ms"), Slo.parse("p99 <= 1ms")
    assert [below.is_kept_by(ns) for ns in (999_999, 1e6, 1_000_001)] == [True, False, False]
    assert [within.is_kept_by(ns) for ns in (999_999, 1e6, 1_000_001)] == [True, True, False]
    flat = replace(USUAL, port_ns=(0.0,) * 4, new_port_ns=(0.0,) * 4)  # each takes a connection's base exactly
    for slo, is_kept in ((f"p99 < {USUAL.base_ns[0]}ns", False), (f"p99 <= {USUAL.base_ns[0]}ns", True)):
        advice = advise(replace(SCENARIO, connections=50, calibration=flat, slo=Slo.parse(slo)))
        assert candidates(advice)["plain"].keeps_slo == is_kept


@pytest.mark.parametrize(
    ("release", "algorithm", "options", "tw_reuse", "doubt"),
    [
        ("3.10", Algorithm.PRE_4_2, 0, 0, ""),
        ("3.10.0-1160.el7.x86_64", Algorithm.FROM_4_2, 0, 0, "el7 may have the search of 4.6"),
        ("4.18.0-553.el8_10.x86_64", Algorithm.PRE_6_8, 1, 0, "el8 may have backported IP_LOCAL_PORT_RANGE"),
        ("5.14.0-427.el9.x86_64", Algorithm.PRE_6_8, 1, 2, "el9 may have backported IP_LOCAL_PORT_RANGE"),
        ("5.10.0-28-amd64", Algorithm.PRE_6_8, 1, 2, ""),
        ("6.1", Algorithm.PRE_6_8, 1, 2, "6.1.32 and later of 6.1 have IP_LOCAL_PORT_RANGE"),
        ("6.1.31", Algorithm.PRE_6_8, 1, 2, ""),
        ("6.1.32", Algorithm.PRE_6_8, 2, 2, ""),
        ("6.1.0-9-amd64", Algorithm.PRE_6_8, 1, 2, ""),
        ("6.1.0-1010-oem", Algorithm.PRE_6_8, 1, 2, ""),
        ("6.1.0-13-cloud-amd64", Algorithm.PRE_6_8, 2, 2, ""),
        ("6.1.0-13-amd64", Algorithm.PRE_6_8, 2, 2, ""),
        ("6.3", Algorithm.PRE_6_8, 2, 2, ""),
        ("6.12.9+deb13-amd64", Algorithm.FROM_6_8, 2, 2, ""),
    ],
)
def test_kernels_are_known_by_name(release: str, algorithm: Algorithm, options: int, tw_reuse: int, doubt: str) -> None:
    """What each has, by its version and by what is known to be backported; the rest is said to be in doubt."""
    found = read_kernel(release)
    assert (found.algorithm, len(found.options), found.tw_reuse) == (algorithm, options, tw_reuse)
    assert found.doubt.startswith(doubt)
    assert bool(found.doubt) == bool(doubt)
    assert LOCAL_PORT_RANGE.name in read_kernel(release, frozenset({LOCAL_PORT_RANGE.name})).options


def test_backports_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Debian's 6.1 has windows but no quick range; 3.10 has no knee, and its own default range."""
    asked = ("advise", "-n", "20000", "--format", "json", "--kernel")
    found = {}
    for name, words in {
        "debian": ("6.1.0-13-amd64",),
        "el9": ("5.14.0-427.el9.x86_64",),
        "told": ("5.14.0-427.el9.x86_64", "--backported", "IP_LOCAL_PORT_RANGE"),
        "3.10": ("3.10",),
    }.items():
        invoke(*asked, *words)
        found[name] = json.loads(capsys.readouterr().out)
    labels = {name: {one["label"].split()[0] for one in document["strategies"]} for name, document in found.items()}
    assert labels["debian"] == labels["told"] == {"plain", "range", "window", "random"}
    assert labels["el9"] == labels["3.10"] == {"plain", "random"}
    topics = {name: {one["topic"] for one in document["advice"]} for name, document in found.items()}
    assert "knee" in topics["debian"] & topics["el9"]
    assert "knee" not in topics["3.10"]
    assert found["3.10"]["port_range"] == {"low": 32768, "high": 61000}
    assert found["3.10"]["strategies"][0]["label"] == "plain"


@pytest.mark.parametrize(
    ("settings", "more", "said", "seconds"),
    [
        ({}, (), "tcp_tw_reuse 2 (this host), not loopback: TIME_WAIT 60 s", 60),
        ({"net.ipv4.tcp_tw_reuse": "1"}, (), "tcp_tw_reuse 1 (this host), not loopback: TIME_WAIT 1 s", 1),
        ({"net.ipv4.tcp_tw_reuse": "1"}, ("--tcp-tw-reuse", "0"), "tcp_tw_reuse 0 (--tcp-tw-reuse), not loopback", 60),
        ({"net.ipv4.tcp_tw_reuse_delay": "250"}, ("--target", "127.0.0.1:80"), "loopback: TIME_WAIT 0.25 s", 0.25),
        ({}, ("--target", "127.0.0.1:80", "--target", "127.0.0.2:80"), "(this host), loopback: TIME_WAIT 1 s", 1),
        ({}, ("--target", "127.0.0.1:80", "--target", "192.0.2.1:80"), "not loopback: TIME_WAIT 60 s", 60),
        ({"net.ipv4.tcp_timestamps": "0"}, ("--tcp-tw-reuse", "1"), "no TCP timestamps: TIME_WAIT 60 s", 60),
        ({"net.ipv4.tcp_tw_reuse": "1"}, ("--kernel", "4.9"), "tcp_tw_reuse 0 (default), not loopback", 60),
        ({}, ("--kernel", "5.10", "--target", "[::1]:80"), "(default), loopback: TIME_WAIT 1 s", 1),
        ({}, ("--closes-first", "server"), "server first: TIME_WAIT is at the server", 0),
    ],
)
def test_time_wait_is_said_and_set(  # a case's parts, and two fixtures
    settings: dict[str, str],
    more: tuple[str, ...],
    said: str,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """tcp_tw_reuse is this host's, or the default of a kernel that is named, or as the option says."""
    here = {"net.ipv4.tcp_tw_reuse": "2", "net.ipv4.tcp_timestamps": "1"} | settings
    monkeypatch.setattr(sysctl, "read_all", lambda names: {name: here[name] for name in names if name in here})
    asked = ("advise", "--rate", "10/s", "--hold", "20s", "--port-range", "40000-41999", *more)
    invoke(*asked)
    assert said in capsys.readouterr().out
    invoke(*asked, "--format", "json")
    assert json.loads(capsys.readouterr().out)["time_wait"]["seconds"] == seconds


def test_words_are_read() -> None:
    """Rates, times, releases and SLOs in the forms that the help names, and no others."""
    assert [RATE.read(text, "--rate") for text in ("500/s", "0.5", "1k/s", "600/min")] == [500, 0.5, 1000, 10]
    assert [HOLD.read(text, "--hold") for text in ("120s", "2m", "1.5h", "250ms")] == [120, 120, 5400, 0.25]
    assert (read_kernel("6.1").version, read_kernel("5.10.0-28-amd64").version) == ((6, 1), (5, 10))
    assert (Slo.parse("p99.9 <= 2 ms").statistic, Slo.parse("mean<50us").limit_ns) == ("p99.9", 50_000)
    assert (Slo.parse("p95 < 1ms").percentile, Slo.parse("max < 1s").percentile, Slo.parse("mean < 1s").percentile) == (
        95.0,
        100.0,
        None,
    )
    for reader, wrong in (
        (lambda text: RATE.read(text, "--rate"), ("0/s", "nan", "-1", "5/m", "1e30")),
        (lambda text: HOLD.read(text, "--hold"), ("0s", "5", "nan", "5d")),
        (read_kernel, ("6", "v6.1", "")),
        (Slo.parse, ("p100 < 1ms", "p99 > 1ms", "p99 < 1", "p99 < nans", "p99 < -1ms", "p99 < 0ms", "p99 <= 0s")),
    ):
        for word in wrong:
            with pytest.raises(UsageError):
                reader(word)
