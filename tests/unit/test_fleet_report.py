"""The reports of several hosts: what each format says, and that it fits where it is read."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connbench.analysis.fleet_summary import compare_fleets, summarize_fleet
from connbench.analysis.gate import evaluate_fleet
from connbench.commands.reports import FleetReport
from connbench.errors import RunFault, UsageError
from connbench.model import Churn, Load, Phase, StrategySpec
from connbench.report.fleet_report import (
    MOST_SHOWN,
    comparison_json,
    comparison_text,
    comparison_verdict,
    json_document,
    markdown,
    tables,
    text,
    verdict,
)
from connbench.report.formats import FLEET_FORMATS
from connbench.report.html.page import html_page
from connbench.results.fleet_file import Fleet, HostRecord, results_of
from connbench.results.input_file import parse_any
from connbench.results.result import Samples
from connbench.results.talk_csv import read_talk_csv
from connbench.thresholds import parse
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of, too_wide
from json_units import without_unit

EPOCH_US = 1_790_000_000_000_000
DOMAIN = ".eu-west-1.compute.example.com"


def calls(us: int, number: int = 20, **columns: Sequence[int]) -> Samples:
    """Attempts one after the other, of so many us each."""
    return samples_of([us * 1000 - 1000] * number, **columns)


def host(name: str, *rounds: Samples, spec: StrategySpec = BIND, **environment: str) -> HostRecord:
    """A host with these rounds of a strategy, all of which began at the same moment, and more of its environment."""
    measured = [round_of(samples, number) for number, samples in enumerate(rounds, 1)]
    begun = [replace(r, report=replace(r.report, epoch_us=EPOCH_US)) for r in measured]
    result = result_of({spec: begun})
    result.environment |= environment
    result.name = name
    return HostRecord(name, result, offset_us=0.0, error_us=100.0)


def fleet(*hosts: HostRecord, together: bool = False) -> Fleet:
    """A fleet of these hosts."""
    return Fleet(hosts, together)


def many(*, together: bool) -> Fleet:
    """32 hosts with long names and one or two kernels, of which one measured nothing."""
    hosts = [
        host(f"client-{n:02d}{DOMAIN}", *[calls(1000 + 100 * n)] * 5, kernel="6.8.0" if n % 2 else "5.15.0")
        for n in range(31)
    ]
    return fleet(*hosts, HostRecord(f"client-31{DOMAIN}", None, RunFault("no answer for 30 s")), together=together)


@pytest.mark.parametrize("is_together", [False, True], ids=["apart", "together"])
def test_text_of_many_hosts_fits_a_terminal(is_together: bool) -> None:  # a parameter of a test
    """The slowest hosts come first, and the others are counted; --wide shows all."""
    everything = many(together=is_together)
    shown = text(everything, 80)
    assert too_wide(shown) == []
    rows = [line.split()[0] for line in shown.splitlines() if line.startswith("client-") and line.count("  ") > 4]
    assert rows[:MOST_SHOWN] == [f"client-{n}" for n in range(30, 30 - MOST_SHOWN, -1)]
    assert f"{31 - MOST_SHOWN} faster hosts are not shown: --wide shows all" in shown
    assert f"names of hosts are without {DOMAIN}" in shown
    wide = text(everything, 80, is_wide=True)
    assert too_wide(wide) == []
    assert "client-00 " in wide
    assert "--wide" not in wide
    assert "client-00 " in markdown(everything)


def test_names_that_no_line_has_room_for_stay_whole() -> None:
    """A reader copies them: they stand on lines of their own, and the figures below."""
    names = [f"{letter * 70}" for letter in "ab"]
    shown = text(fleet(*(host(name, *[calls(1000)] * 5) for name in names)), 80)
    assert too_wide(shown) == []
    assert all(name in shown for name in names)


def test_verdict_names_the_slowest_host_and_why() -> None:
    """With the interval, and what differs on the host."""
    found = fleet(
        host("a", *[calls(1000)] * 5), host("b", *[calls(1000)] * 5), host("c", *[calls(2000)] * 5, kernel="5.15.0")
    )
    first, why, others = verdict(found)
    assert first == (
        "c is the slowest of 3 hosts: with bind the total time of c is 2.001 times that of a "
        "(95 % interval 2.001 to 2.001)."
    )
    assert why == "c differs from a in kernel (5.15.0, and 6.8.0-test on a)."
    assert others == "No difference from a is shown on b."
    shown = text(found, 80)
    assert "kernel: 6.8.0-test on a and b; 5.15.0 on c" in shown
    assert "c             2.001 x  2.001 to 2.001  slower" in shown


def test_verdict_says_if_the_first_host_is_the_slowest() -> None:
    """Then all others are faster."""
    [first, *_] = verdict(fleet(host("a", *[calls(2000)] * 5), host("b", *[calls(1000)] * 5)))
    assert first.startswith("a is the slowest of 2 hosts: with bind the total time of b is 0.500 times that of a ")


def test_verdict_says_if_hosts_are_alike_or_the_rounds_too_few() -> None:
    """As `connbench compare` judges it: from five rounds on."""
    alike = fleet(host("a", *[calls(1000)] * 5), host("b", *[calls(1000)] * 5))
    assert verdict(alike) == ("a and b are alike: no difference of the total time is shown.",)
    largest, following = verdict(fleet(host("a", calls(1000)), host("b", calls(2000))))
    assert largest == (
        "The largest difference: with bind the total time of b is 2.001 times that of a; "
        "the rounds are too few to tell it from chance."
    )
    assert following == "Next: measure all hosts with --rounds 10."


def test_verdict_compares_nothing_that_was_measured_otherwise() -> None:
    """Another number of connections is another measurement."""
    said = verdict(fleet(host("a", *[calls(1000)] * 5), host("b", *[calls(1000, 30)] * 5)))
    assert said[0] == "Not comparable with a: b (connections 20 on a, and 30 there)."


def test_verdict_of_a_search_in_bind_is_of_the_acquire_time() -> None:
    """The latency of connect() shows nothing there."""
    hosts = (host(name, *[calls(us)] * 5, spec=StrategySpec("early")) for name, us in (("a", 1000), ("b", 2000)))
    [first, *_] = verdict(fleet(*hosts))
    assert "with early the mean acquire time of b is 2.000 times that of a" in first


def test_verdict_of_hosts_together() -> None:
    """What they reached, and that one host is slow."""
    hosts = (host("a", calls(100, 200)), host("b", calls(100, 200)), host("c", calls(200, 200), kernel="5.15.0"))
    together = fleet(*hosts, together=True)
    assert verdict(together) == (
        "3 hosts together: bind made 25,000 connections/s, at most 500 open; all hosts ran for 50 % of the time.",
        "With bind c is the slowest: 5,000 connections/s, where the median of the others is 10,000.",
        "c differs from a in kernel (5.15.0, and 6.8.0-test on a).",
    )
    shown = text(together, 80)
    assert "all hosts  25,000        500" in shown
    assert "they began within" in shown


def test_verdict_names_hosts_without_ports_and_lost_syns() -> None:
    """Two kinds of exhaustion: of a host's own ports, and of what lies between the hosts and their target."""
    own = calls(100, errno=[0] * 18 + [errno.EADDRNOTAVAIL] * 2)
    path = calls(100, errno=[0] * 15 + [errno.EINPROGRESS] * 5)
    [_, ports, *_] = verdict(fleet(host("a", own), host("b", calls(100)), together=True))
    assert ports == "a ran out of ports: 2 attempts found none free."
    said = verdict(fleet(host("a", path), host("b", path), together=True))
    assert said[1] == (
        "a and b had no answer in time to 10 SYNs, the first with 30 connections of all hosts open, and ports of their "
        "own left: the target, or a router with NAT before it, had no room for more."
    )
    shown = text(fleet(host("a", path), host("b", own), together=True), 80)
    assert "errors  EINPROGRESS  EADDRNOTAVAIL" in shown


def test_verdict_names_lost_hosts_and_unsound_ones() -> None:
    """The figures of the others stand."""
    refused = calls(100, errno=[0] * 15 + [errno.ECONNREFUSED] * 5)
    said = verdict(
        fleet(
            host("a", refused),
            replace(host("b", calls(100)), fault=RunFault("ssh died")),
            HostRecord("c", None, RunFault("gone")),
            HostRecord("d", None, RunFault("gone"), left_out=True),
            together=True,
        )
    )
    assert said[0].startswith("Do not use these figures: a: bind: ")
    assert said[-3:] == (
        "c measured nothing.",
        "d was left out.",
        "b ended early: its figures are of a part of the run.",
    )
    assert verdict(fleet(host("a", calls(100)), HostRecord("b", None, RunFault("gone")))) == (
        "Only a measured anything, so there is no host to compare it with.",
        "b measured nothing.",
    )


def test_json_is_the_file_with_a_summary_before_the_hosts() -> None:
    """It can be read back, every number has a unit, and names of hosts are whole."""
    for together in (False, True):
        everything = many(together=together)
        document = json_document(everything)
        read = json.loads(document)
        assert list(read) == ["schema", "connbench", "summary", "fleet"]
        assert without_unit(read) == set()
        summary = read["summary"]
        assert summary["verdict"] == list(verdict(everything))
        [strategy] = summary["strategies"]
        assert strategy["hosts"][0]["host"] == f"client-30{DOMAIN}"
        assert (strategy["in_all"] is not None) is together
        again = parse_any(document.encode(), "fleet.json", None)
        assert isinstance(again, Fleet)
        assert [h.name for h in again.hosts] == [h.name for h in everything.hosts]
        assert summarize_fleet(again).strategies[0].in_all == summarize_fleet(everything).strategies[0].in_all


def test_every_kind_of_result_has_every_format() -> None:
    """Hosts without an attempt, with a churn, and of a CSV that has little: beside each other, and together."""
    load = Load(connections=6, churn=Churn(4))
    fill, churn = StrategySpec("bind", load=load), StrategySpec("bind", load=load, phase=Phase.CHURN)
    churned = result_of({fill: [round_of(calls(100, 6))]})
    churned.rounds[churn] = [round_of(calls(100, 4))]
    odd = {
        "empty": result_of({BIND: [round_of(samples_of([]), fault=RunFault("gone"))]}),
        "churn": churned,
        "talk": read_talk_csv("9024,0.00001\n9025,0.00002\n", "talk.csv"),
    }
    hosts = [HostRecord(name, replace(result, name=name)) for name, result in odd.items()]
    for some in (hosts, hosts[:1], hosts[1:], [*hosts, host("usual", calls(100))]):
        for together in (False, True):
            everything = fleet(*some, together=together)
            assert too_wide(text(everything, 80)) == []
            assert all(write(everything) for write in FLEET_FORMATS.values())
            report = FleetReport(fleet=everything)
            assert html_page(report.results, report.tables(), report.opening())
            assert comparison_text(compare_fleets(everything, everything), 80)


def test_verdict_is_about_the_churn_where_there_is_one() -> None:
    """As that of a run: the filling is there to meet a range that is in use."""
    load = Load(connections=6, churn=Churn(4))
    hosts = []
    for name in "ab":
        result = result_of({StrategySpec("bind", load=load): [round_of(calls(100, 6))]})
        result.rounds[StrategySpec("bind", load=load, phase=Phase.CHURN)] = [round_of(calls(200, 4))]
        for some in result.rounds.values():
            some[:] = [replace(r, report=replace(r.report, epoch_us=EPOCH_US)) for r in some]
        hosts.append(HostRecord(name, replace(result, name=name), offset_us=0.0))
    assert verdict(fleet(*hosts, together=True)) == (
        "2 hosts together: bind made 10,000 connections/s, at most 12 open; all hosts ran for 100 % of the time.",
        "The hosts are alike: with bind each made 5,000 connections/s.",
    )


def test_metrics_have_the_host_as_a_label() -> None:
    """Each metric once, with the samples of every host."""
    written = FLEET_FORMATS["prometheus"](fleet(host("a", calls(100)), host("b", calls(100)), together=True))
    families = {family.name: family for family in text_string_to_metric_families(written)}
    assert written.count("# TYPE connbench_connect_seconds ") == 1
    assert {sample.labels["host"] for sample in families["connbench_connect_seconds"].samples} == {"a", "b"}
    [rate] = families["connbench_fleet_connections_per_second"].samples
    assert (rate.labels, rate.value) == ({"strategy": "bind"}, 20_000)
    assert [s.value for s in families["connbench_fleet_measured"].samples] == [1, 1]


@pytest.mark.parametrize("name", ["talk", "talk-csv"])
def test_formats_of_one_host_are_refused(name: str) -> None:
    """The message names the file and the formats that there are."""
    report = FleetReport(fleet=replace(fleet(host("a", calls(100))), name="f.json"))
    with pytest.raises(UsageError) as refusal:
        report.write(name)
    assert refusal.value.message == f"--format {name} is of one host, and f.json is of several"
    assert refusal.value.hint.startswith("use text, json, csv, ")
    assert name not in refusal.value.hint


def test_blocks_print_each_host_as_a_run() -> None:
    """Under its name."""
    report = FleetReport(fleet=fleet(host("a", calls(100)), host("b", calls(100))), by_strategy=True)
    words = report.write("text")
    assert [line for line in words.splitlines() if line.startswith("==>")] == ["==> a <==", "==> b <=="]
    assert words.count("connection attempts: 20") == 2


def test_page_begins_with_the_verdict_and_has_each_finding_once() -> None:
    """A table by host, a picture, and the findings of all hosts under one heading."""
    broken = calls(100, errno=[0] * 15 + [errno.ECONNREFUSED] * 5)
    for together in (False, True):
        report = FleetReport(
            fleet=fleet(*(host(f"{name}.example.com", *[broken] * 5) for name in "abc"), together=together)
        )
        page = html_page(report.results, report.tables(), report.opening())
        opening, _, rest = page.partition("<h2>Findings")
        assert all(sentence in opening for sentence in report.verdict())
        assert "<h2>Findings" not in rest
        assert 'id="picture"' in opening
        assert "names of hosts are without .example.com" in rest
        assert "and 1 more host<" in opening


def gate(condition: str, judged: Fleet, base: Fleet | None = None) -> list[str]:
    """What fails, with the host."""
    return [
        f"{name}: {failure.text}"
        for name, failure in evaluate_fleet([parse(condition, with_base=base is not None)], judged, base)
    ]


def test_conditions_are_judged_on_each_host() -> None:
    """A host that measured nothing fails, unless it was left out; so does one that lacks a strategy of the others."""
    slow, fast = host("a", calls(2000)), host("b", calls(1000))
    assert gate("p50 > 1.5ms", fleet(slow, fast)) == ["a: bind: p50 > 1.5ms, measured 2ms"]
    absent = HostRecord("c", None, RunFault("gone"))
    [failure] = gate("bind: p50 > 10ms", fleet(fast, absent))
    assert failure == "c: bind: p50 > 10ms cannot be judged: the host measured nothing"
    assert gate("bind: p50 > 10ms", fleet(fast, replace(absent, left_out=True))) == []
    [failure] = gate("plain: p50 > 10ms", fleet(fast, host("d", calls(1000), spec=PLAIN)))
    assert failure == "b: plain: p50 > 10ms cannot be judged: it was not measured"


def test_comparison_names_what_only_one_fleet_has() -> None:
    """In the text, and as failures of a gate."""
    base = fleet(*(host(name, *[calls(1000)] * 5) for name in "abc"))
    new = fleet(host("a", *[calls(1000)] * 5), host("b", *[calls(2000)] * 5), host("d", *[calls(1000)] * 5))
    compared = compare_fleets(base, new)
    assert comparison_verdict(compared)[0].startswith("b: of 11 figures, 10 are slower and 1 shows no difference; ")
    assert comparison_verdict(compared)[1:] == (
        "No change is shown on a.",
        "c is in BASE only, and not compared.",
        "d is in NEW only, and not compared.",
    )
    shown = comparison_text(compared, 80)
    assert too_wide(shown) == []
    assert "b     20.0 ms  40.0 ms   2.001 x  2.001 to 2.001  slower" in shown
    assert gate("slower", new, base) == [
        "b: bind: slower: the total time is 2x the base's",
        "d: bind: slower cannot be judged: the base run does not have this strategy",
        "c: every strategy: slower cannot be judged: NEW does not have this host",
    ]
    document = json.loads(comparison_json(compared))
    assert list(document["hosts"]) == ["a", "b"]
    assert without_unit(document) == set()


def test_comparison_of_many_hosts_shows_those_that_became_the_slowest() -> None:
    """As the report does: without the domain that all have, and the others with --wide."""
    base, new = (
        fleet(*(host(f"h{n:02d}{DOMAIN}", *[calls(1000 + more * n)] * 5) for n in range(20))) for more in (0, 100)
    )
    shown = comparison_text(compare_fleets(base, new), 80)
    assert too_wide(shown) == []
    rows = [line.split()[0] for line in shown.splitlines() if line.startswith("h") and line.endswith("slower")]
    assert rows == [f"h{n:02d}" for n in range(19, 19 - MOST_SHOWN, -1)]
    assert "8 faster hosts are not shown: --wide shows all" in shown
    assert "\nh00 " in comparison_text(compare_fleets(base, new), 80, is_wide=True)


def test_comparison_of_a_host_that_lost_a_strategy_fails() -> None:
    """A strategy that only BASE has on a host does not pass silently."""
    both = host("a", calls(1000))
    assert both.result
    base_result = result_of({BIND: [round_of(calls(1000))], WINDOW: [round_of(calls(1000))]})
    base_result.name = "a"
    base, new = fleet(HostRecord("a", base_result)), fleet(both)
    assert gate("window: p50 > 1.2x base.p50", new, base) == [
        "a: window 500: p50 > 1.2x base.p50 cannot be judged: it was not measured"
    ]
    assert "only in BASE: window 500 on a" in comparison_text(compare_fleets(base, new), 80)


def test_results_of_several_files_have_the_name_of_their_file() -> None:
    """Two fleets can have the same hosts."""
    one, two = (replace(fleet(host("a", calls(100))), name=f"runs/{name}.json") for name in ("old", "new"))
    assert [result.name for result in results_of([one, two])] == ["a in old.json", "a in new.json"]
    assert [result.name for result in results_of([one])] == ["a"]


def test_tables_of_several_strategies_name_them() -> None:
    """On a page each table has a heading."""
    result = result_of({BIND: [round_of(calls(100))], WINDOW: [round_of(calls(100))]})
    result.name = "a"
    titles = [table.title for table in tables(fleet(HostRecord("a", result), host("b", calls(100))))]
    assert titles == ["bind: by host", "bind: against a", "window 500: by host"]


def test_strategy_without_figures_of_all_together_says_why() -> None:
    """A host was lost before it had measured the second strategy."""
    first = host("a", calls(10))
    assert first.result
    first.result.rounds[WINDOW] = [round_of(calls(10))]
    shown = text(fleet(first, host("b", calls(10)), together=True), 80)
    assert shown.count("no round has known times on all hosts: there are no figures of all together") == 1
