"""What programs that track benchmarks get: each text is read by the rules of its reader, and its figures are right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jsonschema
import pytest

from connbench.errors import Interrupted
from connbench.model import StrategySpec
from connbench.model.load import Load, Profile
from connbench.report.benchmarks import MEASURES, benchmark_action, bmf, gobench
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import Origin, Result, Round
from factories import ENVIRONMENT, PLAIN, WINDOW, result_of, round_of, samples_of

EVEN_US, ODD_US = 10, 1000


def attempts(scale: int = 1) -> Round:
    """Six attempts: two even ports, three odd ones, and one that failed."""
    times = [EVEN_US, EVEN_US, ODD_US, ODD_US, ODD_US, 50]
    return round_of(
        samples_of(
            [time * 1000 * scale for time in times], port=[9024, 9026, 9025, 9027, 9029, 0], errno=[0] * 5 + [99]
        )
    )


@dataclass(frozen=True)
class GoLine:
    """A line of Go's benchmark text.

    Attributes:
        name: The name without its number of CPUs.
        values: The figures by their units.
    """

    name: str
    iterations: int
    values: dict[str, float]
    cpus: int = 1


ACTION_NAME = re.compile(r"Benchmark\w+[\w()$%^&*-=|,[\]{}\"#]*?(-\d+)?\s+\d+\s+.+", re.ASCII)
"""What github-action-benchmark takes for a line (src/extract.ts, extractGoResult)."""


def read_go(text: str) -> tuple[dict[str, str], list[GoLine]]:
    """Configuration and results of Go's benchmark text, by the grammar of https://go.dev/design/14313-benchmark-format.

    benchstat itself is in no package of the distribution; it was built from golang/perf and read the same text.

    Raises:
        AssertionError: A line is nothing that the grammar has.
    """
    configuration, found = {}, []
    for line in text.splitlines():
        if line.startswith("Benchmark"):
            name, iterations, *rest = line.split()
            match = re.fullmatch(r"(Benchmark[A-Z][^\s]*?)(?:-(\d+))?", name)
            assert match
            assert ACTION_NAME.match(line)
            assert rest
            assert len(rest) % 2 == 0
            values = dict(zip(rest[1::2], map(float, rest[::2]), strict=True))
            found.append(GoLine(match[1], int(iterations), values, int(match[2] or 1)))
        elif line.startswith("Unit"):
            assert re.fullmatch(r"Unit \S+( (better=(lower|higher)|assume=(exact|nothing)))+", line)
        elif not line.startswith("#"):
            match = re.fullmatch(r"([a-z][^\sA-Z:]*):[ \t]+(.*)", line)
            assert match, line
            configuration[match[1]] = match[2]
    return configuration, found


def profiled(rounds: int = 1) -> Result:
    """A profile of two levels with three attempts each, of which the second level has no connection."""
    spec = StrategySpec("plain", load=Load(profile=Profile((0.5, 1.0), 3)))
    samples = samples_of([10_000] * 3 + [40_000] * 3, errno=[0] * 3 + [99] * 3, in_use=[5] * 3 + [10] * 3)
    return result_of({spec: [round_of(samples, number) for number in range(1, rounds + 1)]})


def test_go_has_a_line_for_each_round_and_parity() -> None:
    """With the number of attempts and the mean latency first, as Go writes them, and the CPUs behind the name."""
    configuration, lines = read_go(gobench(result_of({PLAIN: [attempts(), attempts(2)], WINDOW: [attempts()]})))
    assert configuration == {"goos": "linux", "pkg": "connbench"}
    assert [(line.name, line.iterations, line.cpus) for line in lines] == [
        (f"BenchmarkConnect/strategy={strategy}/parity={parity}", number, 4)
        for strategy, rounds in (("plain", 2), ("window_500", 1))
        for parity, number in (("all", 6), ("even", 2), ("odd", 3))
        for _ in range(rounds)
    ]
    first, second = lines[:2]
    assert list(first.values) == [measure.go_unit for measure in MEASURES]
    assert first.values["ns/op"] == pytest.approx((2 * EVEN_US + 3 * ODD_US + 50) * 1000 / 6, abs=0.05)
    assert second.values["ns/op"] == pytest.approx(2 * first.values["ns/op"], abs=0.1)
    assert first.values["failed/op"] == pytest.approx(1 / 6, abs=1e-6)
    assert lines[2].values == {
        "ns/op": EVEN_US * 1000,
        "p50-ns/op": EVEN_US * 1000,
        "p99-ns/op": EVEN_US * 1000,
        "acquire-ns/op": EVEN_US * 1000 + 1000,
        "acquire-p50-ns/op": EVEN_US * 1000 + 1000,
        "failed/op": 0,
    }


def test_go_has_the_levels_of_a_profile() -> None:
    """In place of parities; the strategy has its own name, and failed attempts their times."""
    _, lines = read_go(gobench(profiled(2)))
    names = [f"BenchmarkProfile/strategy=plain/level={level}" for level in ("50%", "50%", "100%", "100%")]
    assert [line.name for line in lines] == names
    assert [line.values["ns/op"] for line in lines] == [10_000, 10_000, 40_000, 40_000]
    assert [line.values["failed/op"] for line in lines] == [0, 0, 1, 1]


def test_go_lines_compare_between_kernels() -> None:
    """Benchstat compares nothing between files whose configuration differs: kernel and seed stand in a comment."""
    made = result_of({PLAIN: [attempts()]})
    newer = replace(made, environment=ENVIRONMENT | {"kernel": "7.0", "machine": "x86_64", "cpu_model": "A\n::b c"})
    assert read_go(gobench(made))[0] == {"goos": "linux", "pkg": "connbench"}
    assert "Linux 6.8.0-test, range 9024-65535, loop c, seed 1" in gobench(made)
    configuration, _ = read_go(gobench(newer))
    assert list(configuration) == ["goos", "goarch", "pkg", "cpu"]
    assert configuration["goarch"] == "amd64"


def names_in(text: str) -> Iterator[str]:
    """The names of all lines of Go's text, with the number of CPUs."""
    return (line.split()[0] for line in text.splitlines() if line.startswith("Benchmark"))


@pytest.mark.parametrize("name", ["a b/c=d", "é ü", "a\tb", "x-2", "<a>"])
def test_go_names_are_one_word(name: str) -> None:
    """Whatever a file calls its strategy, a name has the parts strategy and parity; one CPU has no number."""
    result = Result(None, {"cpu_count": 1}, origin=Origin.TALK_CSV)
    result.add(StrategySpec(name), attempts())
    assert len(read_go(gobench(result))[1]) == 3
    for written in names_in(gobench(result)):
        assert re.fullmatch(r"BenchmarkConnect/strategy=[^\s/=]+/parity=(all|even|odd)", written)


def leaves_out(text: str, words: Sequence[str]) -> bool:
    """Whether a text has none of the words."""
    return not any(word in text for word in words)


def test_what_is_not_known_is_left_out() -> None:
    """A round that was cut short would look fast; a talk CSV has no acquire times; without a round there is no line."""
    cut_short = replace(attempts(), fault=Interrupted(15))
    assert list(names_in(gobench(result_of({PLAIN: [cut_short]})))) == []
    _, lines = read_go(gobench(result_of({PLAIN: [attempts(), replace(cut_short, number=2)]})))
    assert len(lines) == 3
    talk = Result(None, {}, origin=Origin.TALK_CSV)
    talk.add(StrategySpec("x"), Round(1, samples_of([1000, 2000], prepare_ns=[0, 0], acquire_ns=[0, 0])))
    text = gobench(talk)
    assert leaves_out("\n".join(line for line in text.splitlines() if line.startswith("Bench")), ["acquire"])
    assert [line.values["ns/op"] for line in read_go(text)[1]] == [1500, 1000, 2000]


BMF_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema",
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
}
"""Of https://bencher.dev/docs/reference/bencher-metric-format, and stricter: no other keys."""

ACTION_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string", "pattern": r"^± \d+(\.\d+)?$"},
            "extra": {"type": "string"},
        },
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}
"""Of the README of github-action-benchmark, "customSmallerIsBetter"; the range as that action writes it itself."""


def read_bmf(result: Result | Fleet) -> dict[str, Any]:
    """A result in Bencher's format, which its schema allows."""
    document: dict[str, Any] = json.loads(bmf(result))
    jsonschema.validate(document, BMF_SCHEMA)
    assert all(len(measure) <= 64 for measures in document.values() for measure in measures)  # Bencher's longest name
    return document


def read_action(result: Result | Fleet) -> list[dict[str, Any]]:
    """A result as github-action-benchmark takes it; no name is there twice, because it finds the last value by it."""
    document: list[dict[str, Any]] = json.loads(benchmark_action(result))
    jsonschema.validate(document, ACTION_SCHEMA)
    assert len({entry["name"] for entry in document}) == len(document)
    return document


def test_bencher_has_the_interval_over_rounds() -> None:
    """Of five rounds, the geometric mean of times between its bounds; of fewer there are no bounds."""
    few = read_bmf(result_of({PLAIN: [attempts(), attempts(4)]}))
    assert list(few) == ["plain: all attempts", "plain: even ports", "plain: odd ports"]
    assert few["plain: even ports"] == {
        "latency": {"value": pytest.approx(2 * EVEN_US * 1000)},
        "latency-p50": {"value": pytest.approx(2 * EVEN_US * 1000)},
        "latency-p99": {"value": pytest.approx(2 * EVEN_US * 1000)},
        "acquire": {"value": pytest.approx((11_000 * 41_000) ** 0.5)},
        "acquire-p50": {"value": pytest.approx((11_000 * 41_000) ** 0.5)},
        "failed": {"value": 0},
    }
    scales = (1, 2, 3, 4, 6)
    figure = read_bmf(result_of({PLAIN: [attempts(scale) for scale in scales]}))["plain: odd ports"]["latency"]
    assert figure["value"] == pytest.approx(ODD_US * 1000 * math.prod(scales) ** (1 / len(scales)))
    assert ODD_US * 1000 < figure["lower_value"] < figure["value"] < figure["upper_value"] < 10 * ODD_US * 1000


def test_action_has_each_figure_with_its_unit() -> None:
    """And the longer arm of the interval, how many attempts and rounds it is of; shares stay shares."""
    entries = {entry["name"]: entry for entry in read_action(result_of({PLAIN: [attempts(n) for n in range(1, 6)]}))}
    bounds = read_bmf(result_of({PLAIN: [attempts(n) for n in range(1, 6)]}))["plain: even ports"]["latency"]
    found = entries["plain: even ports, latency"]
    assert (found["unit"], found["extra"]) == ("ns", "10 attempts, 5 rounds")
    assert found["value"] == bounds["value"]
    assert float(found["range"].removeprefix("± ")) == pytest.approx(bounds["upper_value"] - bounds["value"], abs=0.05)
    failed = entries["plain: all attempts, failed"]
    assert (failed["unit"], failed["value"]) == ("share", pytest.approx(1 / 6))
    assert failed["range"] == "± 0"


def test_levels_are_named() -> None:
    """Of a profile: how much of the range is in use."""
    assert list(read_bmf(profiled())) == ["plain: 50% in use", "plain: 100% in use"]
    assert read_action(profiled())[0]["name"] == "plain: 50% in use, latency"


def test_sharing_a_label_makes_no_figure_twice() -> None:
    """Parameters that a label does not show; latencies of 0, as a CSV can have them, have a mean, too."""
    twins = [StrategySpec("window", 500, WINDOW.placement, retries) for retries in (None, 0)]
    assert len(read_bmf(result_of({spec: [attempts()] for spec in twins}))) == 6
    nothing = Result(None, {}, origin=Origin.TALK_CSV)
    nothing.add(PLAIN, Round(1, samples_of([0, 0], prepare_ns=[0, 0])))
    assert read_bmf(nothing)["plain: all attempts"]["latency"] == {"value": 0}
    assert read_bmf(result_of({PLAIN: [replace(attempts(), fault=Interrupted(15))]})) == {}


def test_hosts_stand_in_the_names() -> None:
    """Of a fleet: each host has its configuration, and its name in each benchmark's."""
    hosts = [
        HostRecord(name, Result(None, dict(environment), name=name, rounds={PLAIN: [attempts()]}), None)
        for name, environment in (("web1", {"cpu_model": "A"}), ("b, c", {}))
    ]
    fleet = Fleet(tuple(hosts))
    assert list(read_bmf(fleet))[::3] == ["web1: plain: all attempts", "b, c: plain: all attempts"]
    assert read_action(fleet)[-1]["name"] == "b, c: plain: odd ports, failed"
    text = gobench(fleet)
    assert [name for name in names_in(text) if "all" in name] == [
        "BenchmarkConnect/host=web1/strategy=plain/parity=all",
        "BenchmarkConnect/host=b,c/strategy=plain/parity=all",
    ]
    assert text.index("cpu: A\n") < text.index("host=web1") < text.index("cpu:\n") < text.index("host=b,c")
