"""A JSON document reads back as the result that it was written from, and other documents are refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from connbench.analysis.summary import summarize
from connbench.errors import InputError, Interrupted
from connbench.model import Link, Load, Loop, StrategySpec
from connbench.report.formats import FORMATS
from connbench.results import json_file
from connbench.results.json_file import read_json
from connbench.results.plain_document import SCHEMA
from connbench.results.result import Origin, Result, Round
from connbench.results.talk_csv import read_talk_csv
from connbench.samples import COLUMNS
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of, unhurried
from generated_results import EXAMPLES, facts, fault_facts, results

Document = dict[str, Any]
FILES = Path(__file__).parents[1] / "files"
"""What earlier versions of connbench wrote."""


def again(result: Result) -> Result:
    """The result that is read from the file that is written."""
    return read_json(FORMATS["json"](result).encode(), "again.json")


@settings(unhurried, max_examples=EXAMPLES)
@given(results())
def test_result_comes_back_as_it_was(result: Result) -> None:
    """Plan, environment, findings known beforehand, and all that every round reported survive a file."""
    read = again(result)
    assert (read.plan, read.known, read.origin, read.name) == (result.plan, result.known, Origin.RUN, "again.json")
    settings_met = next(iter(result.rounds.values()))[0].report.settings
    assert read.environment == result.environment | {"namespace_sysctls": settings_met}
    assert list(read.rounds) == list(result.rounds)
    assert read.is_partial == result.is_partial
    for spec, rounds in result.rounds.items():
        for back, measured in zip(read.rounds[spec], rounds, strict=True):
            assert (back.number, back.report) == (measured.number, measured.report)
            assert facts(back.samples) == facts(measured.samples)
            assert fault_facts(back.fault) == fault_facts(measured.fault)


def test_what_is_read_is_written_as_before() -> None:
    """Reading and writing again loses and adds nothing, figures and findings included."""
    text = FORMATS["json"](
        result_of({PLAIN: [round_of(samples_of([1, 2, 3]))], WINDOW: [round_of(samples_of([]), fault=Interrupted(2))]})
    )
    assert FORMATS["json"](read_json(text.encode(), "x")) == text


def test_talk_csv_keeps_its_fractions() -> None:
    """Times of a talk CSV are no whole ns, and survive JSON too, with their unknown columns."""
    result = read_talk_csv("9024,1.1e-05\n-1,0.000123456789012345\n9025,0.0\n", "1700000000-6.1.csv")
    read = again(result)
    assert (read.plan, read.origin) == (None, Origin.TALK_CSV)
    assert read.environment["kernel"] == "6.1"
    [before], [after] = result.strategies, read.strategies
    assert after.strategy == before.strategy
    assert facts(after.samples) == facts(before.samples)
    assert repr(summarize(after)) == repr(summarize(before))  # as text, for NaN equals nothing


def measured(document: Document) -> Document:
    """The first round of a document."""
    found: Document = document["strategies"][0]["rounds"][0]
    return found


def load(document: Document) -> Document:
    """The load of the plan's first strategy."""
    found: Document = document["plan"]["strategies"][0]["load"]
    return found


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "older schema": (lambda d: d.update(schema=1), "schema 1"),
    "newer schema": (lambda d: d.update(schema=SCHEMA + 1), f"schema {SCHEMA + 1}"),
    "a name that was resolved to no target": (
        lambda d: d["plan"].update(names=[{"name": "server.example", "address": "192.0.2.1", "addresses": 1}]),
        "a name was resolved to 192.0.2.1, which is no target",
    ),
    "no schema": (lambda d: d.pop("schema"), "not a result of connbench"),
    "schema that is no number": (lambda d: d.update(schema="1"), "not a result of connbench"),
    "no strategies": (lambda d: d.pop("strategies"), "not a result of connbench"),
    "no plan": (lambda d: d.update(plan=None), "no plan"),
    "no environment": (lambda d: d.pop("environment"), "environment"),
    "strategy without a round": (lambda d: d["strategies"][0].update(rounds=[]), "rounds"),
    "round that is none": (lambda d: d["strategies"][0].update(rounds=["x"]), "object"),
    "round twice": (lambda d: d["strategies"][0]["rounds"].append(measured(d)), "round 1 of bind occurs twice"),
    "round 0": (lambda d: measured(d).update(number=0), "number"),
    "missing column": (lambda d: measured(d)["samples"].pop("port"), "column port"),
    "columns of two lengths": (lambda d: measured(d)["samples"]["errno"].pop(), "'errno': 2"),
    "negative time": (lambda d: measured(d)["samples"].update(connect_ns=[1, -2, 3]), "row 2: connect_ns is -2"),
    "endless time": (lambda d: measured(d)["samples"].update(connect_ns=[1, 2, 10**16]), "row 3: connect_ns"),
    "port beyond the last": (lambda d: measured(d)["samples"].update(port=[9024, 70000, 1]), "row 2: port is 70000"),
    "port in two": (lambda d: measured(d)["samples"].update(port=[9024, 9025.5, 1]), "port is not a list of whole"),
    "attempt without a try": (lambda d: measured(d)["samples"].update(tries=[1, 0, 1]), "row 2: tries is 0"),
    "words for numbers": (lambda d: measured(d)["samples"].update(tries=["1", "1", "1"]), "column tries"),
    "lists for numbers": (lambda d: measured(d)["samples"].update(tries=[[1], [1], [1]]), "column tries"),
    "ragged lists": (lambda d: measured(d)["samples"].update(tries=[[1], [1, 2], 1]), "column tries"),
    "number for a list": (lambda d: measured(d)["samples"].update(tries=3), "column tries"),
    "truth for numbers": (lambda d: measured(d)["samples"].update(tries=[True, True, True]), "column tries"),
    "samples that are a list": (lambda d: measured(d).update(samples=[]), "samples"),
    "counters that are words": (lambda d: measured(d).update(counters={"a": "b"}), "counters"),
    "fault without a message": (lambda d: measured(d).update(fault={}), "fault"),
    "fault of a round that was well": (
        lambda d: measured(d).update(fault={"message": "x", "hint": "y", "exit_code": 0}),
        "no round ends with exit code 0",
    ),
    "unknown listener": (lambda d: d["plan"].update(listener="x"), "listener"),
    "unknown namespace": (lambda d: d["plan"].update(namespace="x"), "namespace"),
    "unknown link": (lambda d: d["plan"].update(link="x"), "link"),
    "hash table without an entry": (lambda d: d["plan"].update(ehash_entries=0), "ehash_entries is 0"),
    "negative delay": (lambda d: d["plan"].update(delay_ms=-1), "delay_ms is -1"),
    "unknown placement": (lambda d: d["strategies"][0]["strategy"].update(placement="x"), "placement"),
    "unknown origin": (lambda d: d.update(origin="x"), "origin"),
    "unknown severity": (lambda d: d.update(known_findings=[{"severity": "x"}]), "known_findings"),
    "words for a number of the plan": (lambda d: d["plan"].update(connections="many"), "connections"),
    "number for a word of the plan": (lambda d: d["plan"].update(sources=[1]), "source"),
    "negative number of connections": (lambda d: d["plan"].update(connections=-1), "connections is -1"),
    "negative number of reserved ports": (lambda d: d["plan"].update(reserved=-1), "reserved is -1"),
    "more reserved ports than there are": (lambda d: d["plan"].update(reserved=56513), "reserved is 56513"),
    "no port that is not reserved": (lambda d: d["plan"].update(reserved=56512), "ports of bind is 0"),
    "no rounds": (lambda d: d["plan"].update(rounds=0), "rounds is 0"),
    "negative seed": (lambda d: d["plan"].update(seed=-1), "seed is -1"),
    "negative time-out": (lambda d: d["plan"].update(timeout=-0.5), "timeout is -0.5"),
    "negative CPU": (lambda d: d["plan"].update(cpus=[-1]), "cpu is -1"),
    "target port beyond the last": (lambda d: d["plan"]["targets"][0].update(port=70000), "target port is 70000"),
    "range beyond the last port": (lambda d: d["plan"]["port_range"].update(high=70000), "9024-70000"),
    "range reversed": (lambda d: d["plan"]["port_range"].update(low=65535, high=1), "reversed"),
    "window of 0": (lambda d: d["strategies"][0]["strategy"].update(window=0), "window is 0"),
    "negative retries": (lambda d: d["strategies"][0]["strategy"].update(retries=-1), "retries is -1"),
    "strategy without connections": (lambda d: load(d).update(connections=0), "connections is 0"),
    "more than full": (lambda d: load(d).update(fill=1.5), "fill is 1.5"),
    "no client": (lambda d: load(d).update(concurrency=0), "concurrency is 0"),
    "churn of nothing": (lambda d: load(d).update(churn={"replacements": 0}), "churn is 0"),
    "churn that was none": (lambda d: d["strategies"][0]["strategy"].update(phase="churn"), "no churn"),
    "port without a success": (
        lambda d: measured(d)["samples"].update(errno=[0, 99, 0]),
        "row 2: port is 9025 and errno",
    ),
    "neither port nor error": (lambda d: measured(d)["samples"].update(port=[9024, 0, 9026]), "row 2: the attempt has"),
    "port outside of the range": (lambda d: measured(d)["samples"].update(port=[9024, 80, 9026]), "row 2: port is 80"),
    "port twice": (
        lambda d: measured(d)["samples"].update(port=[9024, 9025, 9024]),
        "two open connections from one source to one target have port 9024",
    ),
    "source beyond the plan": (lambda d: measured(d)["samples"].update(source=[0, 0, 1]), "row 3: source is 1"),
    "target beyond the plan": (lambda d: measured(d)["samples"].update(target=[0, 7, 0]), "row 2: target is 7"),
    "client beyond the load": (lambda d: measured(d)["samples"].update(client=[1, 0, 0]), "row 1: client is 1"),
    "more attempts than planned": (lambda d: d["plan"].update(connections=2), "has 3 attempts, and 2 were planned"),
    "fewer attempts than planned": (lambda d: d["plan"].update(connections=9), "has 3 of 9 attempts, and no fault"),
    "no attempt and no fault": (
        lambda d: measured(d).update(samples={name: [] for name in measured(d)["samples"]}),
        "has no attempt, and no fault",
    ),
    "round beyond the plan": (lambda d: measured(d).update(number=2), "round is 2, not 1 to 1"),
    "strategy beyond the plan": (
        lambda d: d["strategies"][0]["strategy"].update(name="plain"),
        "measured and not planned",
    ),
    "more attempts than any run": (lambda d: d["plan"].update(connections=10**8), "connections is 100000000"),
    "strategy planned twice": (lambda d: d["plan"]["strategies"].append(d["plan"]["strategies"][0]), "planned twice"),
    "window of a strategy without": (
        lambda d: d["strategies"][0]["strategy"].update(window=5),
        "which it does not take",
    ),
    "window that has none": (lambda d: d["plan"]["strategies"][0].update(name="window"), "window has no window"),
    "window wider than the range": (
        lambda d: d["plan"].update(
            strategies=[d["plan"]["strategies"][0] | {"name": "partition", "window": 100}],
            port_range={"low": 9024, "high": 9026},
        ),
        "window of partition 100 is 100, not 1 to 3",
    ),
    "more sources than there are": (lambda d: load(d).update(sources=2), "sources of bind, 2 sources is 2, not 1 to 1"),
    "source that is no address": (
        lambda d: d["plan"].update(sources=["127.0.0.1\n::error::x"]),
        "does not appear to be an IPv4 or IPv6 address",
    ),
    "source that is a group": (
        lambda d: d["plan"].update(sources=["224.0.0.1"]),
        "224.0.0.1 is not the address of",
    ),
    "source of another family than the target": (
        lambda d: d["plan"].update(sources=["::1"]),
        "is of another family than the addresses before it",
    ),
    "sysctl of the router that is no number": (
        lambda d: measured(d).update(settings={"net.netfilter.nf_conntrack_max": "many"}),
        "net.netfilter.nf_conntrack_max is",
    ),
    "sysctl that is no number": (
        lambda d: measured(d).update(settings={"net.ipv4.tcp_max_tw_buckets": "many"}),
        "net.ipv4.tcp_max_tw_buckets is",
    ),
    "sysctl of 4,300 digits": (
        lambda d: measured(d).update(settings={"net.ipv4.tcp_ehash_entries": "9" * 4300}),
        "net.ipv4.tcp_ehash_entries is",
    ),
    "reserved ports that are none": (
        lambda d: measured(d).update(settings={"net.ipv4.ip_local_reserved_ports": "x"}),
        "reserved ports 'x'",
    ),
    "kernel that is a list": (lambda d: d["environment"].update(kernel=["6.8"]), "environment: kernel is not a text"),
    "sysctls that are a list": (lambda d: d["environment"].update(host_sysctls=[1]), "host_sysctls is not a group"),
    "environment in environments": (lambda d: d["environment"].update(a={"b": {"c": 1}}), "environment"),
    "number beyond 64 bits": (lambda d: d["environment"].update(cpu_count=2**64), "environment"),
    "counter beyond 64 bits": (lambda d: measured(d).update(counters={"a": 2**64}), "counters"),
    "worker beyond 64 bits": (lambda d: measured(d)["workers"][0].update(memory_idle=2**64), "workers"),
    "steal of two": (lambda d: measured(d).update(steal=2), "steal"),
    "number of 4,300 digits": (lambda d: d["plan"].update(connections=10**4299), "connections is a number of"),
    "unknown close": (lambda d: load(d).update(churn={"replacements": 1, "close": "x"}), "close"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_what_no_run_wrote_is_refused(change: Callable[[Document], object], reason: str) -> None:
    """A document that was changed by hand, or by another version, is refused with the file's name and the fault."""
    document = json.loads(FORMATS["json"](result_of({BIND: [round_of(samples_of([10, 20, 30]))]})))
    change(document)
    with pytest.raises(InputError) as refused:
        read_json(json.dumps(document).encode(), "folder/x.json")
    assert refused.value.message.startswith("folder/x.json ")
    assert reason in refused.value.message
    assert refused.value.hint
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(("schema", "hint"), [(2, "measure again"), (SCHEMA + 1, "newer connbench")])
def test_remedy_for_another_schema_depends_on_which(schema: int, hint: str) -> None:
    """A file from the future needs a newer connbench, one from the past an older one."""
    with pytest.raises(InputError) as refused:
        read_json(json.dumps({"schema": schema} | ({"strategies": []} if schema == 2 else {})).encode(), "x.json")
    assert hint in refused.value.hint


@pytest.mark.parametrize("text", ["{}", "[]", "[1, 2]", '{"a": 1}', '{"schema": 2}', '{"strategies": []}'])
def test_foreign_json_is_refused(text: str) -> None:
    """The message about JSON of another program says so."""
    with pytest.raises(InputError, match=r"^x\.json is JSON, but not a result of connbench$"):
        read_json(text.encode(), "x.json")


def test_a_plan_without_a_link_was_over_the_loopback() -> None:
    """A file from before there were links was measured over the loopback."""
    document = json.loads(FORMATS["json"](result_of({BIND: [round_of(samples_of([10]))]})))
    del document["plan"]["link"], document["plan"]["delay_ms"]
    plan = read_json(json.dumps(document).encode(), "x.json").plan
    assert plan
    assert (plan.link, plan.delay_ms) == (Link.LOOPBACK, 0)


def test_a_plan_without_a_loop_had_the_loop_in_python() -> None:
    """A file from before there was a loop in C was measured by the one in Python; other loops are refused."""
    document = json.loads(FORMATS["json"](result_of({BIND: [round_of(samples_of([10]))]})))
    assert document["plan"].pop("loop") == "c"
    plan = read_json(json.dumps(document).encode(), "x.json").plan
    assert plan
    assert plan.loop is Loop.PYTHON
    document["plan"]["loop"] = "fortran"
    with pytest.raises(InputError, match="plan: Invalid enum value 'fortran'"):
        read_json(json.dumps(document).encode(), "x.json")


def test_columns_of_no_attempt_keep_their_types() -> None:
    """An empty column has whole numbers too, so that it can be joined to others."""
    empty = samples_of([])
    result = result_of({StrategySpec("random"): [Round(1, empty, fault=Interrupted(2))]})
    assert facts(again(result).strategies[0].samples) == facts(empty)


def test_schema_3_is_read() -> None:
    """A file from before figures had units in their names has the same content, a seed above 2^53 too."""
    text = (FILES / "schema-3.json").read_bytes()
    result = read_json(text, "schema-3.json")
    assert result.plan
    assert result.plan.seed == 2**62 + 1
    assert [s.strategy.label for s in result.strategies] == ["plain", "window 500"]
    assert [r.samples.connect_ns.tolist() for r in result.rounds[PLAIN]] == [[10000, 20000, 30000], [10000, 0, 400000]]
    assert [[(w.opened, w.client) for w in r.report.workers] for r in result.rounds[PLAIN]] == [[(3, 0)], [(1, 0)]]
    assert result.is_partial


def test_number_of_clients_is_read_under_its_former_name() -> None:
    """Until schema 5 `concurrency` was `lanes`; a command line that contains the word is unchanged."""
    spec = replace(PLAIN, load=Load(concurrency=3))
    command = """connbench run --source '"lanes": 1'"""
    made = result_of({spec: [round_of(samples_of([10]))]})
    made.environment["command"] = command
    written = FORMATS["json"](made)
    before = written.replace('"concurrency":', '"lanes":').replace(f'"schema":{SCHEMA}', '"schema":4')
    assert before.count('"lanes":') == 2  # of the plan, and of what was measured
    result = read_json(before.encode(), "x.json")
    assert [one.strategy for one in result.strategies] == [spec]
    assert result.environment["command"] == command


def test_schema_4_is_read_with_its_old_names() -> None:
    """A file with `lanes` and `holders` has the same content, and is written again with today's names."""
    text = gzip.decompress((FILES / "schema-4.json.gz").read_bytes())
    before = json.loads(text)
    result = read_json(text, "schema-4.json")
    told = [one["rounds"][0] for one in before["strategies"]]
    rounds = [some[0] for some in result.rounds.values()]
    assert [one["samples"]["lane"] for one in told] == [one.samples.client.tolist() for one in rounds]
    lanes = [[holder["lane"] for holder in one["holders"]] for one in told]
    assert lanes == [[worker.client for worker in one.report.workers] for one in rounds]
    assert [one.samples.acquire_ns.tolist() for one in rounds] == [one["samples"]["acquire_ns"] for one in told]
    written = FORMATS["json"](result)
    assert '"lane"' not in written
    assert FORMATS["json"](read_json(written.encode(), "schema-4.json")) == written


def test_old_names_are_read_in_old_files_alone() -> None:
    """In a document of today's schema an old name is an unknown key."""
    document = json.loads(FORMATS["json"](result_of({BIND: [round_of(samples_of([10]))]})))
    measured(document)["samples"]["lane"] = measured(document)["samples"].pop("client")
    with pytest.raises(InputError, match="column client"):
        read_json(json.dumps(document).encode(), "x.json")
    document["schema"] = 4
    indented = json.dumps(document, indent=1)
    assert read_json(f"\n {indented}".encode(), "x.json").rounds[BIND][0].samples.client.tolist() == [0]


def test_optional_column_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from before a column existed has its lowest value in each row; one with other values keeps them."""
    document = json.loads(FORMATS["json"](result_of({BIND: [round_of(samples_of([10, 20, 30]))]})))
    later = [replace(column, is_optional=column.name in {"tries", "client"}) for column in COLUMNS]
    monkeypatch.setattr(json_file, "COLUMNS", later)
    measured(document)["samples"]["tries"] = [1, 2, 3]
    del measured(document)["samples"]["client"]
    samples = read_json(json.dumps(document).encode(), "x.json").rounds[BIND][0].samples
    assert (samples.tries.tolist(), samples.client.tolist()) == ([1, 2, 3], [0, 0, 0])
    del measured(document)["samples"]["tries"]
    assert read_json(json.dumps(document).encode(), "x.json").rounds[BIND][0].samples.tries.tolist() == [1, 1, 1]
