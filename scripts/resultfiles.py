"""Measures how long connbench takes to save and to load a million attempts in each file format, median of five.

It writes as `run -o` does and reads as `report` does, in a temporary folder; pyarrow reads Parquet. It prints a table;
the exit code is 1 if a median is over its limit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

from connbench.commands.reports import content_of
from connbench.model import Endpoint, Listener, Namespace, Plan, PortRange, StrategySpec
from connbench.model.round_report import RoundReport
from connbench.results.input_file import read
from connbench.results.output_file import PARQUET, Output, format_of
from connbench.results.result import Result, Round, Samples

T = TypeVar("T")

ATTEMPTS = 1_000_000
ROUNDS = 20
REPEATS = 5
LIMITS_S = {".json": 3.0, ".json.gz": 3.0, ".csv": 3.0, ".parquet": 2.0}
"""Of saving and of loading, by the ending of the file's name."""


def made_result(attempts: int = ATTEMPTS, rounds: int = ROUNDS, seed: int = 1) -> Result:
    """A made result of so many attempts over the talk's range: 2 % fail, and latencies are log-normal."""
    rng = np.random.default_rng(seed)
    spec = StrategySpec("random")
    ports = PortRange(9024, 65535)
    target = Endpoint("127.9.9.2", ports.low - 1)
    each, sources = attempts // rounds, ("127.9.9.1",)
    plan = Plan((spec,), each, ports, sources, (target,), Listener.BACKLOG, Namespace.NETWORK, seed=1, rounds=rounds)
    result = Result(plan, {"kernel": "made"})
    for number in range(1, rounds + 1):
        result.add(spec, Round(number, _made_samples(rng, ports, each), RoundReport(established=each)))
    return result


def _made_samples(rng: np.random.Generator, ports: PortRange, attempts: int) -> Samples:
    failed = rng.random(attempts) < 0.02
    prepare = rng.lognormal(8, 0.5, attempts).astype("q")
    connect = rng.lognormal(9.5, 0.8, attempts).astype("q")
    tries = rng.geometric(0.2, attempts)
    acquire = prepare * tries + connect
    return Samples.of(
        started_ns=np.cumsum(acquire + 2000),
        prepare_ns=prepare,
        connect_ns=connect,
        acquire_ns=acquire,
        tries=tries.astype("I"),
        port=np.where(failed, 0, ports.low + rng.permutation(len(ports))[:attempts]).astype("H"),
        errno=np.where(failed, 99, 0).astype("H"),
    )


def seconds(task: Callable[[T], object], argument: T) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    task(argument)
    return time.perf_counter() - begun


def _rows_of(path: Path) -> int:
    """The attempts in a file that connbench reads."""
    return sum(len(measured.samples) for strategy in read(path).strategies for measured in strategy.rounds)


def _rows_of_parquet(path: Path) -> int:
    return int(pq.read_table(path).num_rows)


def measure(folder: Path, ending: str) -> tuple[float, float, float]:
    """Median seconds of saving and of loading, and the file's size in MB."""
    path = folder / f"result{ending}"
    form = format_of(path)
    load = _rows_of_parquet if form == PARQUET else _rows_of

    def save(result: Result) -> None:
        with Output(path, force=True) as output:
            output.save(content_of(result, form))

    saved, loaded = [], []
    for _ in range(REPEATS):
        saved.append(seconds(save, made_result()))  # a new one each time, because the summary of a result is cached
        loaded.append(seconds(load, path))
    if load(path) != ATTEMPTS:
        raise AssertionError(f"{path} does not hold what was saved")
    return median(saved), median(loaded), path.stat().st_size / 1e6


def main() -> int:
    """Measure, print a table, compare with the limit."""
    is_over = False
    print(f"{ATTEMPTS:,} attempts, median of {REPEATS}, with the limit of both\n")
    print(f"{'file':<10}{'save s':>8}{'load s':>8}{'limit s':>8}{'MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for ending, limit in LIMITS_S.items():
            save, load, size = measure(Path(folder), ending)
            missed = max(save, load) > limit
            is_over |= missed
            figures = f"{ending:<10}{save:>8.2f}{load:>8.2f}{limit:>8.1f}{size:>8.1f}"
            print(f"{figures}{'  missed' if missed else ''}", flush=True)
    return int(is_over)


if __name__ == "__main__":
    sys.exit(main())
