"""Names of strategies side by side: short where they can be, unique where they have to be."""

from __future__ import annotations

import pytest

from connbench.model import StrategySpec
from connbench.report.series import series_of, stem
from connbench.results.result import Result
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of


def result_named(name: str, *specs: StrategySpec) -> Result:
    """A result of these strategies, read from a file of this name."""
    result = result_of({spec: [round_of(samples_of([1, 2]))] for spec in specs})
    result.name = name
    return result


def labels(*results: Result) -> list[str]:
    """The names given, in order."""
    return [series.label for series in series_of(results)]


def test_strategies_of_one_result_keep_their_labels() -> None:
    """Within a result the labels distinguish them, whatever the file's name."""
    result = result_named("folder/r.json", PLAIN, WINDOW)
    assert labels(result) == ["plain", "window 500"]
    found = series_of([result])
    assert [series.strategy.strategy for series in found] == [PLAIN, WINDOW]
    assert all(series.result is result for series in found)


def test_strategy_of_several_results_is_named_with_its_file() -> None:
    """Only a label that occurs twice has the file's name beside it, without folder and ending."""
    old, new = result_named("runs/6.1.json.gz", PLAIN, BIND), result_named("runs/6.8.json", PLAIN, WINDOW)
    assert labels(old, new) == ["plain (6.1)", "bind", "plain (6.8)", "window 500"]


def test_files_of_one_name_are_named_by_their_paths() -> None:
    """Where only folders distinguish the files, the whole path stands there."""
    assert labels(result_named("a/r.json", PLAIN), result_named("b/r.json.gz", PLAIN)) == [
        "plain (a/r.json)",
        "plain (b/r.json.gz)",
    ]


def test_result_just_measured_has_no_file() -> None:
    """Beside a file, a result without one keeps its plain label."""
    assert labels(result_named("", PLAIN), result_named("r.json", PLAIN)) == ["plain", "plain (r)"]


def test_no_result_has_no_series() -> None:
    """Without results there are no names."""
    assert labels() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder/r.json", "r"),
        ("r.json.gz", "r"),
        ("1700000000-6.1.75.csv", "1700000000-6.1.75"),
        ("r", "r"),
        ("", ""),
        (".json", ".json"),
    ],
)
def test_stem_is_the_name_without_folder_and_ending(name: str, expected: str) -> None:
    """Kernel versions have dots too: only the last ending goes, and .gz before it."""
    assert stem(result_named(name, PLAIN)) == expected
