"""Whatever changes in a result file, connbench refuses it in a sentence, or every command can show it.

In one process through the commands themselves, for speed; tests/cli/test_hostile_files.py tries the installed command.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from connbench.errors import ExitCode, InputError, UsageError
from connbench.model import Phase as RoundPhase
from connbench.model import RoundPlan
from connbench.results.file_checks import PORT_TWICE
from connbench.results.input_file import read
from connbench.results.result import Origin, Result
from factories import unhurried
from mutants import SEEDS, columns_told, mutant
from run_connbench import invoke

EXAMPLES, ALL_EXAMPLES = 200, 20_000


def run(*arguments: str) -> str:
    """The output of a command; any exception leaves this function, and so does every warning."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        code = invoke(*arguments)
    gated = {ExitCode.THRESHOLD, ExitCode.UNSOUND} if "--fail-if" in arguments else set()
    assert code in {ExitCode.OK, *gated}, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files before anything changes."""
    folder = tmp_path_factory.mktemp("good")
    for name, data in SEEDS.items():
        (folder / name).write_bytes(data)
    return {name: str(folder / name) for name in SEEDS}


def check_refusal(error: InputError, path: Path) -> None:
    """One or two short lines that name the file and the reason."""
    text = f"{error.message}\n{error.hint}"
    assert str(path) in error.message
    assert error.hint
    assert len(error.message) < len(str(path)) + 400
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) == 2


def check_rows(result: Result, data: bytes) -> None:
    """The rows are those of the file, and none of them is impossible."""
    told = columns_told(data) if result.origin is Origin.RUN else None
    rounds = [(spec, measured) for spec, some in result.rounds.items() for measured in some]
    if told is not None:
        assert len(told) == len(rounds)
        assert sum(len(columns["port"]) for columns in told.values()) == sum(len(m.samples) for _, m in rounds)
        for (_, measured), columns in zip(rounds, told.values(), strict=True):
            for name, values in columns.items():
                if hasattr(measured.samples, name):
                    assert getattr(measured.samples, name).tolist() == values
    codes = {finding.code for finding in result.known}
    for spec, measured in rounds:
        samples = measured.samples
        assert len(samples) or measured.fault
        assert ((samples.errno != 0) == (samples.port == 0)).all()
        held = list(zip(samples.source, samples.target, samples.port, strict=True))
        connected = [one for one in held if one[2]]
        if spec.phase is RoundPhase.FILL and result.origin is not Origin.TALK_CSV:
            assert len(set(connected)) == len(connected) or PORT_TWICE in codes or measured.report.established < 30
        if result.plan:
            planned = RoundPlan(result.plan, spec, measured.number)
            assert spec in result.plan.phases
            assert 1 <= measured.number <= result.plan.rounds
            assert len(samples) <= planned.attempts
            assert not len(samples) or samples.source.max() < len(planned.sources)
            assert not len(samples) or samples.target.max() < len(result.plan.targets)
            ports = result.plan.port_range
            if result.plan.namespace.is_own:
                assert all(ports.low <= port <= ports.high for *_, port in connected)


def shows(path: Path, good: dict[str, str]) -> dict[str, list[str]]:
    """The commands that show a file, each by itself."""
    file, page = str(path), str(path.with_name("x.html"))
    picture = ["-o", str(path.with_name("x.svg")), "--force", "--kind"]
    reports = {f"report {form}": ["report", file, "--format", form] for form in REPORTS}
    comparisons = {form: ["compare", good["json"], file, "--format", form] for form in ("text", "markdown", "json")}
    predictions = {f"predict {form}": ["predict", file, "--format", form] for form in ("text", "json")}
    charts = {
        kind: ["plot", file, *picture, kind] for kind in ("scatter", "utilisation", "histogram", "ports", "windows")
    }
    return {
        **reports,
        **comparisons,
        **predictions,
        **charts,
        "blocks": ["report", file, "--blocks"],
        "gate": ["report", file, "--fail-if", "p99 > 1000s"],
        "page": ["report", file, "--html", page, "--force"],
        "pages": ["compare", file, good["loads"], "--html", page, "--force"],
        "terminal": ["plot", file, "--terminal"],
        "calibrate": ["predict", "-n", "30", "--port-range", "9024-9087", "--calibrate", file],
        "overlay": ["predict", file, "--chart", str(path.with_name("x.svg")), "--force"],
    }


REPORTS = ("text", "markdown", "csv", "prometheus", "talk")
SLOW_SHOWS = {"page", "pages", "overlay", "scatter", "utilisation", "histogram", "ports", "windows"}
NOT_FOR_ALL = ("too few", "windows of several sizes", "has a window")
"""What a command prints for a good file that lacks what it shows."""


def check_shown(path: Path, result: Result, commands: list[list[str]]) -> None:
    """These commands can show it; the figures count its rows."""
    strategies = json.loads(run("report", str(path), "--format", "json", "--blocks"))["strategies"]
    for told, strategy in zip(strategies, result.strategies, strict=True):
        assert told["summary"]["all"]["latency_ns"]["count"] == len(strategy.samples)
        assert told["summary"]["errored"]["latency_ns"]["count"] == int(strategy.samples.failed.sum())
    for command in commands:
        is_long = result.plan and max(RoundPlan(result.plan, one, 1).rows for one in result.plan.strategies) > 20_000
        if is_long and command[0] == "predict":
            continue
        try:
            run(*command)
        except InputError as error:
            assert command[0] == "predict"  # what the model does not know is refused as a fault of a file
            check_refusal(error, path)
        except UsageError as error:
            assert any(words in error.message for words in NOT_FOR_ALL)  # noqa: PT017  # either is right


def check_law(name: str, rng: Random, folder: Path, good: dict[str, str]) -> None:
    """The law of this module, for a mutant of one file."""
    data = mutant(SEEDS[name], rng)
    path = folder / "x.json"
    path.write_bytes(data)
    try:
        result = read(path)
    except InputError as error:
        event(f"{name}: refused")
        check_refusal(error, path)
        return
    event(f"{name}: shown")
    check_rows(result, data)
    all_shows = shows(path, good)
    quick = [command for name, command in all_shows.items() if name not in SLOW_SHOWS]
    check_shown(path, result, [rng.choice(list(all_shows.values()) if rng.randrange(10) == 0 else quick)])


QUICK = {"csv", "schema 3", "talk csv"}
"""One of each form, JSON by its smallest file: the slow tests use the others."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SEEDS]
)
def test_good_files_are_shown(name: str, tmp_path: Path, good: dict[str, str]) -> None:
    """Each file that is changed below is read, shown by all commands, and has no impossible row."""
    path = tmp_path / "x.json"
    path.write_bytes(SEEDS[name])
    result = read(path)
    check_rows(result, SEEDS[name])
    check_shown(path, result, list(shows(path, good).values()))


RANDOMS = st.randoms(use_true_random=False)
NO_SHRINKING = [phase for phase in Phase if phase is not Phase.explain]
LAW = settings(
    unhurried, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=NO_SHRINKING, print_blob=True
)


@LAW
@given(st.sampled_from([*SEEDS]), RANDOMS)
def test_mutant_is_refused_or_shown(
    tmp_path_factory: pytest.TempPathFactory, good: dict[str, str], name: str, rng: Random
) -> None:
    """A few hundred mutants of all forms."""
    check_law(name, rng, tmp_path_factory.getbasetemp(), good)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(LAW, max_examples=ALL_EXAMPLES)
@given(st.sampled_from([*SEEDS]), RANDOMS)
def test_twenty_thousand_mutants_are_refused_or_shown(
    tmp_path_factory: pytest.TempPathFactory, good: dict[str, str], name: str, rng: Random
) -> None:
    """The same for more mutants: ten minutes, and twice that on a busy machine."""
    check_law(name, rng, tmp_path_factory.getbasetemp(), good)
