"""The handshake of `--in-flight`: a time of its own in each report, where it was timed, and in no other report."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connbench.analysis.comparison import compare
from connbench.analysis.gate import evaluate
from connbench.analysis.summary import summarize
from connbench.commands.reports import formats_of
from connbench.errors import ExitCode
from connbench.model import Load
from connbench.report.html.figures import utilisation
from connbench.report.html.page import html_page
from connbench.report.json import json_document
from connbench.report.run_report import markdown, text
from connbench.report.series import HANDSHAKE, in_figure, series_of
from connbench.results.json_file import read_json
from connbench.results.result import Result
from connbench.thresholds import parse
from factories import BIND, PLAIN, result_of, round_of, samples_of
from run_connbench import in_process

MS = 1_000_000
HANDSHAKES = [50 * MS, 51 * MS, 60 * MS, 0, 52 * MS]
"""Of five attempts; the fourth finds no port, so that it sends no SYN, and the third is refused."""

FAILED = [0, 0, errno.ECONNREFUSED, errno.EADDRNOTAVAIL, 0]
TIMED = samples_of(
    [5_000] * 5,
    errno=FAILED,
    handshake_ns=HANDSHAKES,
    acquire_ns=[6_000 + handshake for handshake in HANDSHAKES],
)
UNTIMED = samples_of([5_000] * 5)


@pytest.fixture(name="result")
def fixture_result() -> Result:
    """A strategy with handshakes, and one without."""
    return result_of({BIND: [round_of(TIMED)], PLAIN: [round_of(UNTIMED)]})


def test_only_handshakes_that_began_are_summarized(result: Result) -> None:
    """Whose SYN was not sent has no handshake; a refused one has, among the failed."""
    groups = summarize(result.strategies[0]).groups
    assert {name: group.handshake.count for name, group in groups.items()} == {
        "all": 4,
        "even": 2,
        "odd": 1,
        "errored": 1,
    }
    assert (groups["all"].handshake.p50, groups["errored"].handshake.p99) == (51.5 * MS, 60 * MS)
    assert summarize(result.strategies[1]).all.handshake.count == 0


def test_reports_have_handshakes_where_they_were_timed(result: Result) -> None:
    """A table in the text, a key in the JSON, a histogram for Prometheus; not one of them for the other strategy."""
    of_bind, of_plain = text(result).split("plain: Linux")
    assert "handshake" in of_bind
    assert "handshake" not in of_plain
    told = json.loads(json_document(result))["strategies"]
    assert told[0]["summary"]["all"]["handshake_ns"]["p50"] == 51.5 * MS
    assert "handshake_ns" not in told[1]["summary"]["all"]
    metrics = formats_of(result)["prometheus"](result)
    assert 'connbench_handshake_seconds_count{strategy="bind"} 4.0' in metrics
    assert 'connbench_handshake_seconds_count{strategy="plain"}' not in metrics
    table = markdown(result).partition("| handshake ")[2].partition("\n\n")[0]
    assert [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]] == [
        ["bind", "4", "53.2 ms"]
    ]
    without = result_of({PLAIN: [round_of(UNTIMED)]})
    assert "handshake" not in "".join(formats_of(without)[name](without) for name in ("text", "markdown", "prometheus"))


@pytest.mark.parametrize(
    ("load", "line"),
    [
        (Load(in_flight=1000), "in flight: up to 1,000 handshakes outstanding, 3 connections/s"),
        (Load(in_flight=1, concurrency=2), "in flight: up to 1 handshake of each client outstanding, 3 connections/s"),
    ],
)
def test_report_has_the_rate_in_flight(load: Load, line: str) -> None:
    """The connections that were made, by the time from the first begin to the last outcome."""
    samples = samples_of([5_000] * 4, errno=[0, 0, 0, errno.EADDRNOTAVAIL], started_ns=[0, 0, 0, 999_994_000])
    assert line in text(result_of({replace(BIND, load=load): [round_of(samples)]}))


def test_handshakes_come_back_from_a_file(result: Result) -> None:
    """The column is in the JSON as in the samples."""
    read = read_json(json_document(result).encode(), "r.json")
    assert read.strategies[0].samples.handshake_ns.tolist() == HANDSHAKES


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("bind: handshake.p99 > 55ms", ", measured 59.8ms"),
        ("bind: handshake.max > 61ms", None),
        ("bind: even.handshake.mean >= 51ms", ", measured 51ms"),
        ("bind: errored.handshake.min < 1s", ", measured 0.06s"),
        (
            "plain: handshake.p50 > 0ns",
            " cannot be judged: no handshake was timed by itself, which takes --in-flight",
        ),
    ],
)
def test_thresholds_know_the_handshake(result: Result, condition: str, outcome: str | None) -> None:
    """Of all attempts and of a group; one that was not timed fails the gate."""
    assert [failure.outcome for failure in evaluate([parse(condition)], result)] == ([outcome] if outcome else [])


def test_comparison_has_handshakes_where_they_were_timed(result: Result) -> None:
    """Beside latency and errors, round by round."""
    bind, plain = (strategy.figures for strategy in compare(result, result).strategies)
    assert bind["handshake.p50"].base == pytest.approx(51.5 * MS)
    assert not any(name.startswith("handshake") for name in plain)


def test_charts_draw_the_figure_that_is_asked_for(result: Result) -> None:
    """Acquire times of all strategies, handshakes of those that have some, without the attempts that have none."""
    series = series_of([result])
    assert in_figure(series, "latency") == series
    acquired = in_figure(series, "acquire")
    assert [one.strategy.samples.latency_ns.tolist() for one in acquired] == [
        one.strategy.samples.acquire_ns.tolist() for one in series
    ]
    [one] = in_figure(series, "handshake")
    assert (one.label, one.strategy.samples.latency_ns.tolist()) == ("bind", [50 * MS, 51 * MS, 60 * MS, 52 * MS])
    assert np.array_equal(series[0].strategy.samples.latency_ns, TIMED.latency_ns)


def test_page_draws_handshakes_where_they_were_timed() -> None:
    """Median and p99 in the colour of the strategy, without a knee, which is of latencies; no chart without them."""
    in_flight = samples_of([5_000] * 40, handshake_ns=[50 * MS] * 40)
    result = result_of({PLAIN: [round_of(samples_of([5_000] * 40))], BIND: [round_of(in_flight)]})
    figure = utilisation(series_of([result]), HANDSHAKE)
    assert [trace["meta"] for trace in figure["data"]] == [
        {"series": 1, "group": "median"},
        {"series": 1, "group": "p99"},
    ]
    assert figure["layout"]["yaxis"]["title"]["text"] == "handshake"
    assert 'id="handshake"' in html_page([result])
    assert 'id="handshake"' not in html_page([result_of({PLAIN: [round_of(UNTIMED)]})])


@pytest.mark.parametrize("kind", ["scatter", "utilisation", "histogram"])
def test_pictures_name_the_figure(result: Result, kind: str, tmp_path: Path) -> None:
    """The axis says what is drawn."""
    saved, drawn = tmp_path / "r.json", tmp_path / "a.svg"
    saved.write_text(json_document(result), encoding="utf-8")
    done = in_process("plot", str(saved), "--kind", kind, "--figure", "handshake", "-o", str(drawn))
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "", "")
    picture = drawn.read_text(encoding="utf-8")
    assert "<!-- handshake -->" in picture
    assert "latency of connect()" not in picture


def test_figures_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    """Two lines: the file has no handshakes, or the kind draws no times."""
    saved = tmp_path / "r.json"
    saved.write_text(json_document(result_of({PLAIN: [round_of(UNTIMED)]})), encoding="utf-8")
    for options, message in (
        ((), "--figure handshake: no attempt in these files has it\n  -> measure with --in-flight N"),
        (("--kind", "ports"), "--kind ports does not draw the time of each attempt\n  -> leave out --figure handshake"),
    ):
        done = in_process("plot", str(saved), *options, "--figure", "handshake", "-o", str(tmp_path / "a.png"))
        assert (done.returncode, done.stderr) == (ExitCode.USAGE, f"connbench: {message}\n")
        assert not (tmp_path / "a.png").exists()
