"""Results for programs: the JSON document, and the CSV rows."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, fields, replace
from typing import Any, Never

import msgspec
import pytest

from connbench.analysis.soundness import findings
from connbench.analysis.summary import summarize
from connbench.commands.options import FORMAT_NAMES
from connbench.errors import Interrupted
from connbench.findings import Finding, Severity
from connbench.model import NO_LOAD, Churn, Load
from connbench.model.round_report import RoundReport
from connbench.report.formats import FORMATS
from connbench.report.json import json_document
from connbench.results.csv_file import read_csv
from connbench.results.json_file import read_json
from connbench.results.output_file import PARQUET, SUFFIXES
from connbench.results.plain_document import SCHEMA
from connbench.results.result import Result, Samples
from connbench.results.talk_csv import read_talk_csv
from connbench.samples import COLUMNS
from factories import BIND, ENVIRONMENT, PLAIN, RANDOM, WINDOW, result_of, round_of, samples_of
from json_units import without_unit

NOTE = Finding("host-namespace", Severity.WARNING, "measuring in the host's network namespace", "run as root")
CLEAN = samples_of([10_000, 20_000, 30_000])
MIXED = samples_of([10_000, 0, 400_000], errno=[0, errno.EADDRINUSE, errno.EADDRNOTAVAIL], tries=[1, 3, 1])


def refuse(constant: str) -> Never:
    """Standard JSON has no NaN and no infinity."""
    raise AssertionError(f"{constant} in a JSON document")


def document(result: Result) -> dict[str, Any]:
    """The JSON document, read as strictly as any reader may."""
    read: dict[str, Any] = json.loads(json_document(result), parse_constant=refuse)
    return read


def test_document_says_what_was_run_and_where() -> None:
    """Schema, plan, environment and whether it is partial stand at the top."""
    result = result_of({PLAIN: [round_of(CLEAN)]}, known=(NOTE,))
    read = document(result)
    assert list(read) == [
        "schema",
        "origin",
        "plan",
        "environment",
        "partial",
        "reproduction",
        "strategies",
        "findings",
        "known_findings",
    ]
    assert read["schema"] == SCHEMA
    assert read["environment"].items() >= ENVIRONMENT.items()
    assert read["partial"] is False
    assert result.plan
    assert read["plan"] == json.loads(json.dumps(asdict(result.plan)))
    assert read["plan"]["targets"] == [{"host": "127.9.9.2", "port": 9023}]
    assert read["plan"]["namespace"] == "own network namespace"


def test_environment_has_the_sysctls_that_the_connections_met() -> None:
    """The settings of the measured namespace stand with the environment, empty before any round."""
    measured = round_of(CLEAN)
    result = result_of({PLAIN: [measured]})
    assert document(result)["environment"]["namespace_sysctls"] == measured.report.settings
    assert document(Result(result.plan, {}))["environment"] == {"namespace_sysctls": {}}


def test_document_has_each_strategy_with_label_and_parameters() -> None:
    """Each strategy has its name, its parameters, and the label of the text report."""
    strategies = document(result_of({PLAIN: [round_of(CLEAN)], WINDOW: [round_of(MIXED)]}))["strategies"]
    assert [s["label"] for s in strategies] == ["plain", "window 500"]
    assert strategies[1]["strategy"] == {
        "name": "window",
        "window": 500,
        "placement": "inside",
        "retries": 0,
        "load": asdict(NO_LOAD) | {"sysctls": []},
        "phase": "fill",
        "reuse": None,
        "first_port": None,
        "stride": None,
        "residue": None,
    }


@pytest.mark.parametrize("samples", [CLEAN, MIXED, samples_of([])], ids=["clean", "mixed", "empty"])
def test_document_has_the_samples_as_columns(samples: Samples) -> None:
    """Every column of the samples is there in full, by its name."""
    [strategy] = document(result_of({RANDOM: [round_of(samples)]}))["strategies"]
    [measured] = strategy["rounds"]
    assert measured["samples"] == {column.name: getattr(samples, column.name).tolist() for column in COLUMNS}


def test_document_has_the_summarys_figures() -> None:
    """The summary in the document is the one the other formats print."""
    result = result_of({RANDOM: [round_of(MIXED)]})
    found = summarize(result.strategies[0])
    [strategy] = document(result)["strategies"]
    summary = strategy["summary"]
    assert summary["all"]["latency_ns"]["p99"] == found.all.latency.p99
    assert summary["errored"]["acquire_ns"] == asdict(found.errored.acquire)
    assert summary["errors"] == {"EADDRINUSE": 1, "EADDRNOTAVAIL": 1}
    assert (summary["total_ns"], summary["wall_ns"], summary["established"]) == (found.total_ns, found.wall_ns, 1)
    assert (summary["connected"], summary["floor_ns"], summary["rounds_total_ns"]) == (1, 600, [found.total_ns])


def test_figures_of_an_empty_group_are_null() -> None:
    """Nothing failed: the failed have no latency, and a 0 would read as one."""
    [strategy] = document(result_of({PLAIN: [round_of(CLEAN)]}))["strategies"]
    errored = strategy["summary"]["errored"]
    nothing = dict.fromkeys(("minimum", "mean", "p50", "p75", "p90", "p95", "p99", "p999", "maximum"))
    assert errored == {
        "latency_ns": {"count": 0, **nothing},
        "bind_ns": {"count": 0, **nothing},
        "acquire_ns": {"count": 0, **nothing},
        "tries_mean": None,
        "tries_max": None,
    }


def test_what_a_csv_does_not_hold_is_null() -> None:
    """The talk's CSV has neither acquire times nor tries, and no CSV has the connections open at the end."""
    taken = document(read_talk_csv("9024,0.00001\n9025,0.00002\n", "talk.csv"))["strategies"][0]["summary"]
    assert taken["acquire_per_connection_ns"] is None
    assert (taken["all"]["latency_ns"]["p50"], taken["all"]["acquire_ns"], taken["all"]["tries_max"]) == (
        15e3,
        None,
        None,
    )
    assert (taken["wall_ns"], taken["established"]) == (None, None)
    own = document(read_csv(FORMATS["csv"](result_of({PLAIN: [round_of(CLEAN)]})), "own.csv"))["strategies"][0][
        "summary"
    ]
    assert own["all"]["acquire_ns"]["p50"] == 21_000
    assert own["acquire_per_connection_ns"] == 21_000
    assert (own["established"], own["wall_ns"]) == (None, 63_000)


def test_what_a_csv_does_not_hold_of_a_round_is_null_and_read_back() -> None:
    """A 0 would say that no CPU time was stolen and nothing was in TIME_WAIT, which is not known."""
    taken = read_talk_csv("9024,0.00001\n9025,0.00002\n", "talk.csv")
    own = read_csv(FORMATS["csv"](result_of({PLAIN: [round_of(CLEAN)]})), "own.csv")
    names = ("held", "established", "time_wait", "steal", "engine_rss", "epoch_us")
    for read, wall_ns in ((taken, None), (own, 63_000)):
        measured = document(read)["strategies"][0]["rounds"][0]
        assert [measured[name] for name in names] == [None] * len(names)
        assert measured["wall_ns"] == wall_ns
        assert document(read_json(json_document(read).encode(), read.name)) == document(read)
    assert document(result_of({PLAIN: [round_of(CLEAN)]}))["strategies"][0]["rounds"][0]["steal"] == 0


def test_every_number_has_its_unit_in_its_name_or_in_the_docs() -> None:
    """Names in ns or ms say so; docs/figures.md explains all others under "The JSON"."""
    load = Load(connections=3, fill=0.5, sources=1, give_up_ms=2.0, churn=Churn(2, rate=10.0))
    plan = result_of({replace(BIND, load=load): [round_of(MIXED)], WINDOW: [round_of(CLEAN)]})
    assert without_unit(document(plan)) == set()


def test_document_of_a_round_without_an_attempt_parses() -> None:
    """Without attempts the document is still valid JSON."""
    [strategy] = document(result_of({PLAIN: [round_of(samples_of([]))]}))["strategies"]
    assert strategy["summary"]["all"]["latency_ns"]["count"] == 0
    assert strategy["rounds"][0]["wall_ns"] == 0


def test_document_has_counters_and_workers_of_each_round() -> None:
    """Everything that a round reported is in the document, by the report's own names."""
    rounds = [round_of(CLEAN, 1), round_of(MIXED, 2)]
    [strategy] = document(result_of({BIND: rounds}))["strategies"]
    assert [r["number"] for r in strategy["rounds"]] == [1, 2]
    assert [r["wall_ns"] for r in strategy["rounds"]] == [r.samples.wall_ns for r in rounds]
    for read, measured in zip(strategy["rounds"], rounds, strict=True):
        report = {field.name: read[field.name] for field in fields(RoundReport)}
        assert msgspec.convert(report, RoundReport) == measured.report
        assert read["fault"] is None


def test_partial_document_names_the_fault() -> None:
    """An interrupted round marks itself, its strategy and the document as partial."""
    result = result_of({BIND: [round_of(CLEAN)], RANDOM: [round_of(CLEAN, fault=Interrupted(15))]})
    read = document(result)
    assert read["partial"] is True
    assert [s["partial"] for s in read["strategies"]] == [False, True]
    assert [s["rounds"][0]["fault"] for s in read["strategies"]] == [
        None,
        {"message": "stopped by SIGTERM", "hint": "", "exit_code": 143},
    ]


def test_document_has_every_finding() -> None:
    """Findings known beforehand and findings from the samples are both in the document."""
    result = result_of({BIND: [round_of(CLEAN, fault=Interrupted(2))]}, known=(NOTE,))
    read = document(result)["findings"]
    assert [f["code"] for f in read] == ["host-namespace", "partial"]
    assert read == [asdict(found) for found in findings(result)]


def test_command_line_offers_the_formats_there_are() -> None:
    """The names that the options know without loading numpy are those of the formats, and so are the file endings'."""
    assert set(FORMAT_NAMES) == set(FORMATS)
    assert set(SUFFIXES.values()) <= {*FORMATS, PARQUET}
