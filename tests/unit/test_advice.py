"""Advice: what is worked out of a number, a rate and a range, and what it says to do."""

from __future__ import annotations

import json
from dataclasses import replace
from textwrap import indent

import pytest

from connbench.cli import cli
from connbench.cli.advise import HOLD, RATE, read_kernel
from connbench.errors import ConnbenchError, UsageError
from connbench.interrupts import Interrupts
from connbench.linux import sysctl
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Namespace, PortRange, StrategySpec
from connbench.portsearch.advice import advise, code
from connbench.portsearch.algorithm import Algorithm
from connbench.portsearch.calibration import USUAL
from connbench.portsearch.candidates import supported
from connbench.portsearch.counsel import Advice, Candidate, Counsel, Flow, Situation
from connbench.portsearch.slo import Slo
from connbench.report.advice import json as advice_json
from connbench.report.advice import text
from connbench.units import duration

ALL_OPTIONS = supported((6, 12))
SITUATION = Situation(
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


def advice(counsel: Counsel, topic: str) -> Advice:
    """The one of a topic."""
    [found] = [one for one in counsel.advices if one.topic == topic]
    return found


def tried(counsel: Counsel) -> dict[str, Candidate]:
    """What was tried, by label."""
    return {one.spec.label: one for one in counsel.tried}


def test_below_half_every_strategy_does() -> None:
    """The knee is at half the range and not reached; plain keeps the budget and costs what the others do."""
    counsel = advise(SITUATION, None)
    assert advice(counsel, "share").line == "45.0% of the ports are in use"
    assert "knee is at connection 1,001; 900 are 90% of the way" in advice(counsel, "knee").line
    assert tried(counsel)["plain"].is_kept
    assert tried(counsel)["plain"].mean_ns == pytest.approx(USUAL.base_ns, rel=0.05)
    assert {one.topic for one in counsel.advices} & {"exhaustion", "time-wait", "sources"} == set()


def test_past_half_plain_misses_the_slo_that_range_keeps() -> None:
    """1,800 of 2,000: plain walks a thousand ports in vain, 44 µs; the option does without."""
    counsel = advise(replace(SITUATION, connections=1800, slo=Slo.parse("p50 < 20us")), None)
    found = tried(counsel)
    assert not found["plain"].keeps_slo
    assert found["plain"].keeps_budget
    assert found["range"].is_kept
    assert "1,800 go past it" in advice(counsel, "knee").line
    assert advice(counsel, "use").line.split()[1] in {"range", "random", "window"}
    assert counsel.is_kept


def test_without_the_option_no_window_is_advised() -> None:
    """A kernel before 6.3 has no IP_LOCAL_PORT_RANGE: plain, bind and random are all there is."""
    counsel = advise(
        replace(SITUATION, connections=1800, options=supported((5, 10)), algorithm=Algorithm.PRE_6_8), None
    )
    assert set(tried(counsel)) == {"plain", "bind", "random"}
    assert "Linux 6.3 brings it" in advice(counsel, "kernel").reason
    below = advice(counsel, "below-knee")
    assert below.line.endswith("bind, from 2 addresses in turn")
    assert below.code["nginx"].count("192.0.2.") == 2
    assert "IP_LOCAL_PORT_RANGE" not in "".join(advice(counsel, "use").code.values())
    assert supported((4, 1)) == frozenset()
    assert supported((6, 3)) == ALL_OPTIONS


def test_windows_are_the_smallest_that_keep_the_budget() -> None:
    """At 80 % a window of 16 fails too often by itself; a larger one keeps it; at 90 % a small one does by retries."""
    wide = replace(SITUATION, connections=8000, ports=PortRange(20000, 29999))
    found = [one for label, one in tried(advise(wide, None)).items() if "window" in label]
    alone = next(one for one in found if not one.spec.retries)
    assert alone.keeps_budget
    assert (alone.spec.window or 0) > 16
    loose = tried(advise(replace(wide, budget=1.0), None))
    assert "window 16" in loose
    strict = tried(advise(replace(wide, connections=9000, budget=0.001), None))
    retried = [one for one in strict.values() if one.spec.retries]
    assert retried
    assert all(one.errors <= 0.001 and one.tries > 1 for one in retried)


def test_more_connections_than_ports_need_more_sources() -> None:
    """5,000 of 2,000 ports take three addresses; what is then used is simulated with them."""
    counsel = advise(replace(SITUATION, connections=5000), None)
    assert counsel.tried == ()
    assert not counsel.is_kept
    sources = advice(counsel, "sources")
    assert sources.line == "use 3 source addresses instead of 1"
    assert "5,000 connections are more than the 2,000 ports" in sources.reason
    assert "from 3 addresses in turn" in advice(counsel, "use").line
    assert "192.0.2.3" in advice(counsel, "use").code["Python"]


def test_slo_without_the_option_takes_sources_below_half() -> None:
    """On an old kernel bind is quick below half of each address, and not up to its end: four would be at 97 % of it."""
    old = replace(
        SITUATION,
        connections=3900,
        options=supported((5, 10)),
        algorithm=Algorithm.PRE_6_8,
        slo=Slo.parse("mean < 13.5us"),
    )
    counsel = advise(old, None)
    assert advice(counsel, "sources").line == "use 5 source addresses instead of 1"
    assert "nginx" in advice(counsel, "use").code


def test_nothing_that_keeps_is_said() -> None:
    """A connect() costs more than an SLO of 1 µs, whatever the strategy."""
    counsel = advise(replace(SITUATION, slo=Slo.parse("p99 < 1us")), None)
    found = advice(counsel, "sources")
    assert found.line == "nothing keeps 1.00% errors and p99 < 1us with 2, 3, 4, 5 source addresses"
    assert not any(one.topic == "use" for one in counsel.advices)


def test_kernel_that_can_do_nothing_of_it_is_told() -> None:
    """Before 4.2 nothing binds to a source alone, and reserved ports may leave random too few in a row: so it says."""
    asked = replace(
        SITUATION,
        connections=140,
        ports=PortRange(20000, 20199),
        sources=2,
        options=frozenset(),
        algorithm=Algorithm.PRE_6_8,
        reserved=frozenset(range(20050, 20151)),
    )
    counsel = advise(asked, None)
    assert counsel.tried == ()
    found = advice(counsel, "sources")
    assert found.line == "use 3 source addresses instead of 2"
    assert "random has 50 ports in a row that are not reserved, for 70 connections" in found.reason


def test_more_sources_than_are_tried_are_told() -> None:
    """A million connections of two ports take half a million addresses: that is said, and not that nothing does."""
    found = advice(advise(replace(SITUATION, connections=1_000_000, ports=PortRange(40000, 40001)), None), "sources")
    assert found.line == "it takes 500,000 source addresses or more"


def test_knee_is_named_of_every_strategy_that_has_it() -> None:
    """From 6.3 until 6.8 the option's range has the two-parity walk too; of several sources plain has no choice."""
    lines = {}
    for kernel, algorithm in (("6.5", Algorithm.PRE_6_8), ("6.12", Algorithm.FROM_6_8)):
        found = advice(advise(replace(SITUATION, algorithm=algorithm), None), "knee")
        lines[kernel] = found.line.partition(":")[0]
        assert found.reason.startswith("with IP_LOCAL_PORT_RANGE or without") == (kernel == "6.5")
    assert lines == {"6.5": "plain, bind, range", "6.12": "plain, bind"}
    assert advice(advise(replace(SITUATION, sources=2), None), "knee").line.startswith("bind: the knee")


def test_plain_is_advised_where_it_does_as_well() -> None:
    """Of strategies within a twentieth of the quickest, the one that asks least of a program: below the knee, plain."""
    counsel = advise(replace(SITUATION, connections=400), None)
    assert advice(counsel, "use").line == "use plain (connect() as it is)"
    assert not advice(counsel, "use").code
    assert not any(one.topic == "without-option" for one in counsel.advices)
    assert advise(replace(SITUATION, connections=1800), None).tried[0].spec.name == "range"


def test_flow_tells_when_ports_are_used_up() -> None:
    """2,000 ports at 10/s last 200 s; held for 90 s it does not come to that; TIME_WAIT would take 600 ports."""
    counsel = advise(SITUATION, Flow(10, 90))
    assert advice(counsel, "concurrency").reason.startswith("10/s x 90 s")
    assert advice(counsel, "exhaustion").line.startswith("200.0 s after the first")
    assert "does not come to that" in advice(counsel, "exhaustion").reason
    assert "add 600 ports for TIME_WAIT" in advice(counsel, "time-wait").line
    assert "bind() to it (random) does not" in advice(counsel, "time-wait").reason
    assert "held longer than that" in advice(advise(SITUATION, Flow(10, 300)), "exhaustion").reason
    assert "--hold" in advice(advise(SITUATION, Flow(10, None)), "exhaustion").reason


def test_random_takes_as_many_tries_as_few_ports_are_free() -> None:
    """At 90 % the last tries are one in ten: as it replaces connections it draws ten times."""
    found = tried(advise(replace(SITUATION, connections=1800), None))["random"]
    assert found.tries == pytest.approx(10, rel=0.15)


def test_figures_are_written_one_way() -> None:
    """Times have three digits and a unit, wherever they stand; more than all ports are so many times the ports."""
    counsel = advise(replace(SITUATION, connections=1800, slo=Slo.parse("p99 < 1ms")), None)
    use = next(one for one in counsel.tried if one.is_kept)
    assert f"{duration(use.mean_ns)} an attempt, p99 {duration(use.slo_ns)}" in advice(counsel, "use").reason
    dear = replace(USUAL, sizes=(1.0,), port_ns=(4000.0,))
    counsel = advise(replace(SITUATION, connections=1800, calibration=dear), None)
    assert advice(counsel, "knee").reason.endswith("in vain, about 4.00 ms")
    assert advice(advise(replace(SITUATION, connections=5000), None), "share").line == "2.5 times the ports"


def test_rate_times_hold_has_no_noise() -> None:
    """0.1/s for 30 s are three connections, not four; a part of one is one."""
    assert [Flow(0.1, 30).at_once, Flow(0.11, 30).at_once, Flow(0.001, 1).at_once] == [3, 4, 1]
    assert Flow(5, None).at_once == 0


def test_sources_advised_have_a_table_of_their_own() -> None:
    """Where the ports do not suffice, the table is of what each strategy comes to with the addresses that do."""
    counsel = advise(replace(SITUATION, connections=5000), None)
    assert counsel.enough is not None
    assert counsel.enough.sources == 3
    printed = text(counsel, "Linux 6.12")
    table = printed.partition("with 3 source addresses:\n\n")[2].partition("\n\n")[0]
    assert {line.split()[0] for line in table.splitlines()} >= {"strategy", "bind", "range", "random"}
    document = json.loads(advice_json(counsel, "Linux 6.12"))
    assert document["strategies"] == []
    assert document["with_sources"]["sources"] == 3
    assert advise(SITUATION, None).enough is None


def test_code_is_short_and_stands_once() -> None:
    """Many addresses are counted, not listed, but in nginx, which has to."""
    counsel = advise(replace(SITUATION, connections=100_000), None)
    printed = text(counsel, "Linux 6.12")
    blocks = [one.code[language] for one in counsel.advices for language in one.code]
    assert max(map(len, blocks[0].splitlines())) < 100
    assert set(advice(counsel, "below-knee").code) == {"nginx"}
    for block in blocks:
        assert printed.count(indent(block.rstrip("\n"), "    ")) == 1
    old = replace(SITUATION, connections=3000, options=supported((5, 10)), slo=Slo.parse("mean < 13.5us"))
    twice = advise(old, None)
    shared = set(advice(twice, "use").code.values()) & set(advice(twice, "below-knee").code.values())
    assert len(shared) == 1
    assert text(twice, "Linux 5.10").count("split_clients") == 1


def test_reserved_ports_are_nobodys() -> None:
    """NodePorts within the range: less capacity, an earlier knee, and no code that binds to one of them."""
    reserved = replace(SITUATION, connections=1800, reserved=frozenset(range(40000, 40301)))
    assert (reserved.free, reserved.first_half, reserved.longest_free) == (1699, 849, PortRange(40301, 41999))
    assert advise(reserved, None).tried == ()
    assert advice(advise(reserved, None), "sources").reason.startswith(
        "1,800 connections are more than the 1,699 ports"
    )
    counsel = advise(replace(reserved, connections=1600), None)
    assert advice(counsel, "share").line == f"{1600 / 1699:.1%} of the ports are in use"
    assert "the knee is at connection 850; 1,600 go past it" in advice(counsel, "knee").line
    assert tried(counsel)["random"].tries == pytest.approx(1699 / 100, rel=0.2)
    assert "random.randint(40301, 41999)" in code(reserved, StrategySpec("random"))["Python"]
    assert "range 40000-41999 (301 of its ports reserved)" in text(counsel, "Linux 6.12")


def test_reserved_ports_are_the_hosts_or_those_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sysctl of this host counts where its kernel does; a named kernel has none but those of the option."""
    monkeypatch.setattr(sysctl, "read_all", lambda names: dict.fromkeys(names, "40000-40099,41000"))
    seen = []
    for more in ((), ("--kernel", "6.12"), ("--kernel", "6.12", "--reserved-ports", "40007"), ("--reserved-ports", "")):
        connbench("advise", "-n", "500", "--port-range", "40000-40999", "--format", "json", *more)
        seen.append(json.loads(capsys.readouterr().out)["reserved"])
    assert seen == [100, 0, 1, 0]


def test_random_draws_no_longer_than_its_code() -> None:
    """To replace connections of a full range takes as many draws as it has ports: those are given up as in the code."""
    full = replace(SITUATION, connections=6000, ports=PortRange(40000, 45999))
    found = tried(advise(full, None))["random"]
    assert found.errors > 0
    assert found.tries < 300
    assert "tries=1000" in code(full, StrategySpec("random"))["Python"]
    assert "random" not in tried(advise(replace(full, connections=5000, reserved=frozenset({43000})), None))


def test_advice_fits_a_terminal() -> None:
    """Prose is folded, and the code stands as it is, in less than 80 columns but for Go's and C's own lines."""
    printed = text(
        advise(replace(SITUATION, connections=1800, slo=Slo.parse("p99 < 1ms")), Flow(20, 90)), "Linux 6.12", 80
    )
    prose = [line for line in printed.splitlines() if not line.startswith("    ")]
    assert max(map(len, prose)) <= 80
    assert printed.startswith("1,800 connections at once, range 40000-41999, one source, Linux 6.12:")
    assert "\nPython: use range" in printed


def test_all_advice_stands_before_the_code() -> None:
    """Pages of code do not part one advice from the next; of them there are as many as were asked for."""
    counsel = advise(replace(SITUATION, connections=1800), None)
    codes = [f"{language}: {one.line}" for one in counsel.advices for language in one.code]
    lines = text(counsel, "Linux 6.12").splitlines()
    places = [lines.index(one.line) for one in counsel.advices]
    assert max(places) < lines.index(next(line for line in lines if line.startswith("calibration: ")))
    assert [line for line in lines if line in codes] == codes
    assert lines.index(codes[0]) > max(places)
    of_two = text(counsel, "Linux 6.12", languages=("c", "nginx")).splitlines()
    assert [line for line in of_two if line in codes] == [c for c in codes if c.startswith(("C: ", "nginx: "))]


def connbench(*arguments: str) -> None:
    """The command, in this process."""
    cli.main(list(arguments), standalone_mode=False, obj=Interrupts())


def test_code_is_part_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """One language may be asked for, and its want is told; JSON has all of them and takes no choice."""
    asked = ("advise", "-n", "1800", "--port-range", "40000-41999", "--kernel", "6.12", "--code", "go")
    connbench(*asked)
    printed = capsys.readouterr().out
    assert "net.Dialer" in printed
    assert "import socket" not in printed
    connbench("advise", "-n", "95", "--port-range", "20000-20199", "--kernel", "6.12", "--code", "nginx")
    assert capsys.readouterr().out.splitlines()[-1].startswith("no code for nginx: what is advised needs none")
    with pytest.raises(UsageError, match="--code"):
        connbench(*asked, "--format", "json")


def test_rate_and_hold_make_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    """10/s for 2 minutes are 1,200 at once; a named kernel is asked by its version, not by this one."""
    connbench(
        "advise", "--rate", "10/s", "--hold", "2m", "--kernel", "6.1", "--port-range", "40000-41999", "--format", "json"
    )
    document = json.loads(capsys.readouterr().out)
    assert document["connections"] == 1200
    assert document["options"] == ["IP_BIND_ADDRESS_NO_PORT"]
    assert document["algorithm"] == "pre-6.8"
    assert document["kept"]
    assert {one["topic"] for one in document["advice"]} >= {"concurrency", "share", "exhaustion", "knee", "use"}


def test_here_the_kernel_is_probed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --kernel the host's range and the running kernel count."""
    connbench("advise", "-n", "100")
    out = capsys.readouterr().out
    assert out.startswith("100 connections at once, range ")


@pytest.mark.parametrize("goes_first", [True, False])
def test_search_is_probed_and_not_taken_from_the_release(
    goes_first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backport behaves as a later kernel; --algorithm has the last word, and the older search the older costs."""
    monkeypatch.setattr("connbench.cli.advise.one_parity_goes_first", lambda: goes_first)
    monkeypatch.setattr("connbench.cli.advise.is_supported", lambda _: True)
    monkeypatch.setattr("platform.release", lambda: "6.17.0" if goes_first else "6.1.0-backported")
    asked = ("advise", "-n", "500", "--port-range", "40000-40999")
    connbench(*asked)
    out = capsys.readouterr().out
    assert "(probed): the search of Linux " + ("before 6.8" if goes_first else "6.8 and later") in out
    connbench(*asked, "--format", "json", "--algorithm", "pre-6.8")
    document = json.loads(capsys.readouterr().out)
    assert (document["algorithm"], document["calibration"]["port_ns"]) == ("pre-6.8", [80.0, 160.0])


@pytest.mark.skipif(not is_supported(LOCAL_PORT_RANGE), reason="without the option there is nothing to probe")
def test_release_stands_in_where_nothing_can_be_probed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no namespace can be made the search is the release's, and that is said."""
    monkeypatch.setattr("connbench.linux.parity.best_available", lambda: (Namespace.HOST, "not allowed"))
    connbench("advise", "-n", "500", "--port-range", "40000-40999")
    assert "(by its release, for it cannot be probed here)" in capsys.readouterr().out


@pytest.mark.parametrize(("asked", "number"), [("900", 1200), ("1500", 1500)])
def test_more_of_number_and_flow_counts(asked: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """10/s for 2 minutes are 1,200 at once, whether 900 were asked for or not; where 1,500 were, both are told."""
    connbench("advise", "-n", asked, "--rate", "10/s", "--hold", "2m", "--port-range", "40000-41999")
    out = capsys.readouterr().out
    assert out.startswith(f"{number:,} connections at once")
    assert f"{number:,} connections are open at once" in out
    assert ("are 1,200; the 1,500 that were asked for are more" in out) == (number == 1500)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "nothing says how many"),
        (["--hold", "2m"], "--hold does nothing without --rate"),
        (["--rate", "5/s"], "nothing says how many"),
        (["--rate", "1000000/s", "--hold", "1h"], "3,600,000,000 connections"),
        (["-n", "5", "--slo", "quick"], "--slo 'quick' is not"),
        (["-n", "5", "--kernel", "new"], "--kernel 'new' is no Linux release"),
        (["-n", "5", "--kernel", ""], "--kernel '' is no Linux release"),
        (["-n", "5", "--port-range", "7-7"], "is one port"),
        (["-n", "5", "--reserved-ports", "80,9-8"], "reserved ports '80,9-8': '9-8' is neither"),
        (["-n", "5", "--port-range", "70-80", "--reserved-ports", "1-99"], "all ports of 70-80 are reserved"),
        (["-n", "5", "--calibrate", "missing.json"], "missing.json cannot be read"),
    ],
)
def test_faults_name_the_way_out(arguments: list[str], fault: str) -> None:
    """What cannot be advised on is refused in a line that names it, with a hint."""
    with pytest.raises(ConnbenchError, match=fault) as raised:
        connbench("advise", *arguments)
    assert raised.value.hint


def test_words_are_read() -> None:
    """Rates, times, releases and SLOs in the forms that the help names, and no others."""
    assert [RATE.read(text, "--rate") for text in ("500/s", "0.5", "1k/s", "600/min")] == [500, 0.5, 1000, 10]
    assert [HOLD.read(text, "--hold") for text in ("120s", "2m", "1.5h", "250ms")] == [120, 120, 5400, 0.25]
    assert (read_kernel("6.1"), read_kernel("5.10.0-28-amd64")) == ((6, 1), (5, 10))
    assert (Slo.parse("p99.9 <= 2 ms").statistic, Slo.parse("mean<50us").limit_ns) == ("p99.9", 50_000)
    for reader, wrong in (
        (lambda text: RATE.read(text, "--rate"), ("0/s", "nan", "-1", "5/m", "1e30")),
        (lambda text: HOLD.read(text, "--hold"), ("0s", "5", "nan", "5d")),
        (read_kernel, ("6", "v6.1", "")),
        (Slo.parse, ("p95 < 1ms", "p99 > 1ms", "p99 < 1", "p99 < nans")),
    ):
        for word in wrong:
            with pytest.raises(UsageError):
                reader(word)
