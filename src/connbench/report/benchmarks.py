"""Results for programs that track benchmarks: Go's benchmark text, Bencher, and github-action-benchmark.

Each reads a benchmark's name and its figures. A benchmark is a strategy with the attempts of one parity, or of one
level of a profile. Rounds that were cut short are left out, because they look fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

import connbench
from connbench.analysis.bootstrap import FEWEST, Interval, geometric_mean, geometric_mean_of, mean_of
from connbench.analysis.levels import label_without_profile, samples_at
from connbench.report.json import json_text
from connbench.results.fleet_file import Fleet
from connbench.results.result import Result, Samples, StrategyResult
from connbench.safe_text import printable
from connbench.units import counted


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of some attempts.

    Attributes:
        name: Its name.
        unit: `ns`, or `share`: 0 to 1.
        go_unit: Its unit in Go's text, which names the figure, too.
        of: Computes it of at least one attempt; None where it is not known.
    """

    name: str
    unit: str
    go_unit: str
    of: Callable[[Samples], float | None]


def _acquire(figure: Callable[[Samples], float]) -> Callable[[Samples], float | None]:
    """A figure of the acquire time, which a talk CSV does not have."""
    return lambda samples: figure(samples) if samples.is_acquired.any() else None


MEASURES = (
    Measure("latency", "ns", "ns/op", lambda samples: float(samples.latency_ns.mean())),
    Measure("latency-p50", "ns", "p50-ns/op", lambda samples: float(np.percentile(samples.latency_ns, 50))),
    Measure("latency-p99", "ns", "p99-ns/op", lambda samples: float(np.percentile(samples.latency_ns, 99))),
    Measure("acquire", "ns", "acquire-ns/op", _acquire(lambda samples: float(samples.acquire_ns.mean()))),
    Measure(
        "acquire-p50", "ns", "acquire-p50-ns/op", _acquire(lambda samples: float(np.percentile(samples.acquire_ns, 50)))
    ),
    Measure("failed", "share", "failed/op", lambda samples: float(samples.failed.mean())),
)
"""Of each benchmark: times, and the share of the attempts that failed."""


PARITY, LEVEL = "parity", "level"
"""What chooses the attempts of a benchmark."""

_OF_PARITY = {"all": "all attempts", "even": "even ports", "odd": "odd ports"}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Some of the attempts of a strategy.

    Attributes:
        host: The host that made them, if there are several.
        strategy: Its label, without the profile.
        key: What chooses the attempts: `PARITY` or `LEVEL`.
        value: Which they are: `all`, `even` or `odd`, or a level as `45%`.
        rounds: Those of each complete round that has such attempts.
    """

    host: str
    strategy: str
    key: str
    value: str
    rounds: tuple[Samples, ...]

    @property
    def name(self) -> str:
        """Its name for a reader: `window 500: odd ports`, behind the host where there are several."""
        of = _OF_PARITY.get(self.value) or f"{self.value} in use"
        return printable(": ".join(filter(None, (self.host, self.strategy, of))))


def benchmarks_of(result: Result | Fleet) -> Iterator[Benchmark]:
    """The benchmarks of a result, or of each host, that have an attempt, in the order of the strategies."""
    if isinstance(result, Fleet):
        for one in result.results:
            yield from (replace(benchmark, host=one.name) for benchmark in benchmarks_of(one))
        return
    for full_label, strategy in result.labelled.items():
        label = label_without_profile(full_label, strategy.strategy)
        complete = [r.samples for r in strategy.rounds if not r.fault]
        for key, value, rounds in _parts(strategy, complete):
            if any(map(len, rounds)):
                yield Benchmark("", label, key, value, tuple(samples for samples in rounds if len(samples)))


def _parts(strategy: StrategyResult, rounds: list[Samples]) -> Iterator[tuple[str, str, list[Samples]]]:
    """Key and value of each part, and its attempts of each round."""
    profile = strategy.strategy.load.profile
    if profile:
        for number, share in enumerate(profile.levels):
            yield LEVEL, f"{100 * share:g}%", [samples_at(samples, profile, number) for samples in rounds]
        return
    masks: dict[str, Callable[[Samples], Samples]] = {
        "all": lambda samples: samples,
        "even": lambda samples: samples.chosen(samples.even),
        "odd": lambda samples: samples.chosen(samples.odd),
    }
    for value in _OF_PARITY:
        yield PARITY, value, [masks[value](samples) for samples in rounds]


def figures_of(benchmark: Benchmark) -> Iterator[tuple[Measure, Interval, bool]]:
    """The figures of a benchmark over its rounds, and whether the bounds of the interval are known.

    Times have the geometric mean over the rounds, shares the mean. From `FEWEST` rounds on the interval is the 95 % one
    of `analysis.bootstrap`; of fewer rounds both bounds are the mean.
    """
    for measure in MEASURES:
        values = np.array([value for samples in benchmark.rounds if (value := measure.of(samples)) is not None])
        if not len(values):
            continue
        is_positive = measure.unit == "ns" and values.min() > 0  # a CSV can have latencies of 0
        if len(values) >= FEWEST:
            found = geometric_mean_of(values) if is_positive else mean_of(values)
            yield measure, replace(found, low=max(0.0, found.low)), True
        else:
            mean = geometric_mean(values) if is_positive else float(values.mean())
            yield measure, Interval(mean, mean, mean), False


def bmf(result: Result | Fleet) -> str:
    """Bencher Metric Format: for each benchmark its figures, with the bounds of the 95 % interval where they are known.

    The format is that of https://bencher.dev/docs/reference/bencher-metric-format; `latency`, in ns, is a measure that
    Bencher has for every project.
    """
    document = {
        benchmark.name: {
            measure.name: {
                "value": found.estimate,
                **({"lower_value": found.low, "upper_value": found.high} if is_known else {}),
            }
            for measure, found, is_known in figures_of(benchmark)
        }
        for benchmark in benchmarks_of(result)
    }
    return json_text(document, indented=True)


def benchmark_action(result: Result | Fleet) -> str:
    """The list of figures that github-action-benchmark takes as `customSmallerIsBetter`.

    `range` is the longer arm of the 95 % interval, as that action writes those of other tools.
    """
    document = []
    for benchmark in benchmarks_of(result):
        attempts = sum(map(len, benchmark.rounds))
        for measure, found, is_known in figures_of(benchmark):
            arm = max(found.high - found.estimate, found.estimate - found.low)
            document.append(
                {
                    "name": f"{benchmark.name}, {measure.name}",
                    "unit": measure.unit,
                    "value": found.estimate,
                    **({"range": f"± {_plain_number(arm)}"} if is_known else {}),
                    "extra": f"{counted(attempts, 'attempt')}, {counted(len(benchmark.rounds), 'round')}",
                }
            )
    return json_text(document, indented=True)


# ---- Go's benchmark text


_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""Go's names of some architectures; the others have the same name."""

_NO_GO_NAME = re.compile(r"[^A-Za-z0-9_.,:;+*%()-]+")
"""What a name in Go's text has no place for: blanks end it, and a slash or an equals sign begins the next part.

github-action-benchmark, which reads the text too, takes fewer characters than Go.
"""


def gobench(result: Result | Fleet) -> str:
    """Go's benchmark text, a line for each round of each benchmark, for benchstat and its relatives.

    Of several hosts the configuration is written before the lines of each, and the host is in their names.

    The format is that of https://go.dev/design/14313-benchmark-format. The configuration lines are those that Go writes
    itself, because benchstat compares nothing between files whose lines differ: kernel and plan are in a comment.
    """
    results = result.results if isinstance(result, Fleet) else [result]
    units = [f"Unit {measure.go_unit} better=lower" for measure in MEASURES]
    lines = [line for one in results for line in _go_result(one, one.name if isinstance(result, Fleet) else "", units)]
    return "\n".join(lines) + "\n"


def _go_result(result: Result, host: str, units: Sequence[str]) -> Iterator[str]:
    """The lines of one result. A configuration line without a value takes back that of the host before."""
    environment, plan = result.environment, result.plan
    machine = str(environment.get("machine") or "")
    configuration = {
        "goos": "linux",
        "goarch": _GO_ARCH.get(machine, machine),
        "pkg": "connbench",
        "cpu": str(environment.get("cpu_model") or ""),
    }
    what = [f"connbench {environment.get('connbench') or connbench.__version__}"]
    what += [f"Linux {result.kernel}"] if result.kernel else []
    what += [f"range {plan.port_range}", f"loop {plan.loop}", f"seed {plan.seed}"] if plan else []
    yield printable(f"# {', '.join([host, *what] if host else what)}")
    yield from (printable(f"{key}: {value}".rstrip()) for key, value in configuration.items() if value or host)
    yield from units
    cpus = environment.get("cpu_count")
    suffix = f"-{cpus}" if isinstance(cpus, int) and cpus > 1 else ""
    for benchmark in benchmarks_of(result):
        yield from _go_lines(replace(benchmark, host=host), suffix)


def _go_lines(benchmark: Benchmark, suffix: str) -> Iterator[str]:
    """A line for each round: the name, the number of attempts, and each figure before its unit."""
    kind = "Profile" if benchmark.key == LEVEL else "Connect"
    parts = {"host": benchmark.host, "strategy": benchmark.strategy, benchmark.key: benchmark.value}
    words = (f"{key}={_NO_GO_NAME.sub('_', value.replace(', ', ','))}" for key, value in parts.items() if value)
    name = "/".join([f"Benchmark{kind}", *words]) + suffix
    for samples in benchmark.rounds:
        figures = ((measure.of(samples), measure) for measure in MEASURES)
        written = [f"{_plain_number(value)} {measure.go_unit}" for value, measure in figures if value is not None]
        yield "  ".join([name, str(len(samples)), *written])


def _plain_number(value: float) -> str:
    """A number without an exponent, which some readers do not take."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if value < 1 else f"{value:.1f}".removesuffix(".0")
