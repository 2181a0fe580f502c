"""`connbench fleet merge`: what the hosts of a fleet are called, and which files go together."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode, RunFault, TargetError
from connbench.model import Load
from connbench.model.load import Profile
from connbench.report.formats import FLEET_FORMATS, FORMATS
from connbench.results import input_file
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.input_file import read, read_any
from connbench.results.output_file import format_of
from connbench.results.result import Result
from factories import BIND, PLAIN, PLAN, result_of, round_of, samples_of
from mutants import SEEDS, SMALL, made_by_model
from run_connbench import connbench, in_process

Merge = Callable[..., subprocess.CompletedProcess[str]]


def run_of(latency: int, hostname: str | None = None, **plan: Any) -> Result:  # noqa: ANN401  # any field of Plan
    """A run whose every connect() took so long: no two of another latency are the same run."""
    result = result_of({BIND: [round_of(samples_of([latency] * 3))]}, replace(PLAN, **plan))
    return replace(result, environment=result.environment | ({"hostname": hostname} if hostname is not None else {}))


def write(path: Path, found: Result | Fleet) -> None:
    """Write a file as `-o` does, but for gzip."""
    formats: Mapping[str, Callable[..., str]] = FLEET_FORMATS if isinstance(found, Fleet) else FORMATS
    path.parent.mkdir(exist_ok=True)
    path.write_text(formats[format_of(path)](found), encoding="utf-8")


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    """Merge files of a folder, by their names, and run in it; `-o out.json` unless the arguments name a file."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        output = () if "-o" in arguments else ("-o", "out.json")
        return in_process("fleet", "merge", *arguments, *output, cwd=tmp_path)

    return call


def names(path: Path) -> list[str]:
    """The hosts of a fleet file."""
    found = read_any(path)
    assert isinstance(found, Fleet)
    return [host.name for host in found.hosts]


def refusal(done: subprocess.CompletedProcess[str], code: ExitCode = ExitCode.USAGE) -> str:
    """The message and the advice, in a line each; no file was written."""
    assert (done.returncode, done.stdout) == (code, "")
    message, advice = done.stderr.splitlines()
    assert advice.startswith("  -> ")
    return message.removeprefix("connbench: ")


def test_a_host_is_called_by_its_hostname_or_its_file(merge: Merge, tmp_path: Path) -> None:
    """A CSV and files of earlier versions have no hostname, and a hostname may be no name."""
    write(tmp_path / "a.json", run_of(1, "web1"))
    write(tmp_path / "b.json", run_of(2))
    write(tmp_path / "c.csv", run_of(3, "web3"))
    write(tmp_path / "d.x.json", run_of(4, ""))
    write(tmp_path / "e.json", run_of(5, "a\x1b[2J"))
    (tmp_path / "1700000000-6.1.csv").write_text("9024,0.00001\n9025,0.00002\n", encoding="utf-8")
    done = merge("a.json", "b.json", "c.csv", "d.x.json", "e.json", "1700000000-6.1.csv")
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "", "wrote out.json, 6 hosts\n")
    assert names(tmp_path / "out.json") == ["web1", "b", "c", "d.x", "e", "1700000000-6.1"]


def test_a_run_records_its_hostname(tmp_path: Path) -> None:
    """Two runs of this machine, merged by the installed command: hosts that are called by their files, packed."""
    files = [str(tmp_path / f"{name}.json.gz") for name in ("one", "two")]
    for file in files:
        measured = connbench("run", "--strategy", "plain", "--port-range", "40000-40063", "-q", "-o", file)
        assert measured.returncode == ExitCode.OK, measured.stderr
        assert read(Path(file)).environment["hostname"] == platform.node()
    fleet = tmp_path / "fleet.json.gz"
    done = connbench("fleet", "merge", *files, "-o", str(fleet))
    assert done.returncode == ExitCode.OK, done.stderr
    both = f"{files[0]} and {files[1]} are both of host {platform.node()}"
    assert done.stderr.splitlines() == [
        f"connbench: {both}: the fleet has them as hosts one and two",
        f"wrote {fleet}, 2 hosts",
    ]
    assert names(fleet) == ["one", "two"]


def test_files_of_one_host_get_the_names_of_their_files_or_numbers(merge: Merge, tmp_path: Path) -> None:
    """Files of one name, and names that another host has already, leave numbers."""
    write(tmp_path / "a" / "run.json", run_of(1, "web"))
    write(tmp_path / "b" / "run.json", run_of(2, "web"))
    write(tmp_path / "web-1.json", run_of(3, "web-1"))
    done = merge("a/run.json", "b/run.json", "web-1.json")
    assert done.stderr.splitlines()[0] == (
        "connbench: a/run.json and b/run.json are both of host web: the fleet has them as hosts web-2 and web-3"
    )
    assert names(tmp_path / "out.json") == ["web-2", "web-3", "web-1"]
    for number in range(5):
        write(tmp_path / f"{number}.json", run_of(10 + number, "web"))
    done = merge(*(f"{number}.json" for number in range(5)), "--force")
    assert (
        "0.json, 1.json, 2.json ... 4.json are all of host web: the fleet has them as hosts 0, 1, 2 ... 4"
        in done.stderr
    )
    quiet = merge(*(f"{number}.json" for number in range(5)), "--force", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (ExitCode.OK, "", "")


def test_fleets_are_merged_with_what_they_know(merge: Merge, tmp_path: Path) -> None:
    """Hosts that were lost or left out, and the offsets of clocks; a host of two fleets gets numbers."""
    lost = HostRecord("web2", None, TargetError("web2 does not answer"), left_out=True)
    part = HostRecord("web1", run_of(1), RunFault("lost"), offset_us=2.5, error_us=1.0, offsets_us=(2.5,))
    write(tmp_path / "x.json", Fleet((part, lost), is_together=True))
    write(tmp_path / "y.json", Fleet((HostRecord("web1", run_of(2)),)))
    write(tmp_path / "z.json", run_of(3, "web3"))
    done = merge("x.json", "y.json", "z.json")
    assert "x.json and y.json are both of host web1: the fleet has them as hosts web1-1 and web1-2" in done.stderr
    found = read_any(tmp_path / "out.json")
    assert isinstance(found, Fleet)
    assert not found.is_together
    assert names(tmp_path / "out.json") == ["web1-1", "web2", "web1-2", "web3"]
    first, second, *_ = found.hosts
    assert (first.offset_us, first.error_us, first.offsets_us) == (2.5, 1.0, (2.5,))
    faults = [host.fault and host.fault.message for host in (first, second)]
    assert (faults, second.left_out) == (["lost", "web2 does not answer"], True)


def test_one_file_makes_a_fleet_too(merge: Merge, tmp_path: Path) -> None:
    """A pattern of the shell may match one file; a fleet alone is converted, and keeps that its hosts ran together."""
    write(tmp_path / "a.json", run_of(1, "web1"))
    assert merge("a.json").stderr == "wrote out.json, 1 host\n"
    write(tmp_path / "x.json", Fleet((HostRecord("web1", run_of(1)), HostRecord("web2", run_of(2))), is_together=True))
    assert merge("x.json", "-o", "y.json").returncode == ExitCode.OK
    again = read_any(tmp_path / "y.json")
    assert isinstance(again, Fleet)
    assert again.is_together
    done = merge("x.json", "-o", "x.csv")
    assert "a .csv file does not say that the hosts measured at the same time" in done.stderr
    assert names(tmp_path / "x.csv") == ["web1", "web2"]


def test_hosts_that_began_at_one_instant_ran_together(merge: Merge, tmp_path: Path) -> None:
    """`run --start-at` is in the plan; without it, `--together` says so if the files have the time of each round."""
    for name, start in (("a", 10**15), ("b", 10**15), ("c", 10**15 + 1), ("d", None)):
        write(tmp_path / f"{name}.json", run_of(ord(name), name, start_at_us=start))
    document = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    document["strategies"][0]["rounds"][0]["epoch_us"] = 10**15
    (tmp_path / "e.json").write_text(
        json.dumps(document).replace('"hostname": "d"', '"hostname": "e"'), encoding="utf-8"
    )
    for files, is_together in ((("a", "b"), True), (("a", "c"), False), (("a", "d"), False), (("a",), False)):
        assert merge(*(f"{name}.json" for name in files), "--force").returncode == ExitCode.OK
        found = read_any(tmp_path / "out.json")
        assert isinstance(found, Fleet)
        assert found.is_together is is_together
    assert refusal(merge("d.json", "--together", "--force")) == (
        "--together needs the time at which each round began, and d.json does not have it"
    )
    assert merge("e.json", "--together", "--force").returncode == ExitCode.OK
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["fleet"]["together"] is True


def test_a_run_is_given_once(merge: Merge, tmp_path: Path) -> None:
    """The same file by two names, a copy of it, and a fleet that has it."""
    write(tmp_path / "a.json", run_of(1, "web1"))
    write(tmp_path / "b.csv", run_of(1, "web1"))
    write(tmp_path / "f.json", Fleet((HostRecord("web7", run_of(1)),)))
    (tmp_path / "link.json").symlink_to("a.json")
    assert refusal(merge("a.json", "a.json")) == "a.json is given twice"
    assert refusal(merge("a.json", "link.json")) == "link.json is given twice, as a.json is the same file"
    assert refusal(merge("a.json", "b.csv")) == "a.json and b.csv have the same run"
    assert refusal(merge("f.json", "a.json")) == "f.json and a.json have the same run"
    assert not (tmp_path / "out.json").exists()


def test_profiles_and_reproductions_are_no_runs(merge: Merge, tmp_path: Path) -> None:
    """A fleet's report has no place for their figures; it shows a sweep as a run of its strategies."""
    levels = replace(PLAIN, load=Load(profile=Profile((0.5, 1.0), 1)))
    plan = replace(SMALL, strategies=(levels,), rounds=1)
    measured = {levels.phases[0]: [round_of(samples_of([10] * 2))]}
    write(tmp_path / "profile.json", Result(plan, {}, rounds=measured))
    (tmp_path / "reproduction.json").write_bytes(SEEDS["reproduction"])
    (tmp_path / "sweep.json").write_bytes(SEEDS["sweep"])
    write(tmp_path / "run.json", made_by_model(replace(SMALL, strategies=(PLAIN,), rounds=1)))
    for kind in ("profile", "reproduction"):
        assert refusal(merge("run.json", f"{kind}.json")) == f"{kind}.json is a {kind}, and a fleet file has runs"
    assert merge("run.json", "sweep.json").returncode == ExitCode.OK
    assert in_process("report", str(tmp_path / "out.json")).returncode == ExitCode.OK


def test_a_fleet_that_could_not_be_read_is_not_written(
    merge: Merge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is small enough, and all of them in one are not."""
    for number in range(3):
        write(tmp_path / f"{number}.json", run_of(number + 1))
    monkeypatch.setattr(input_file, "LARGEST_FILE", 2 * (tmp_path / "0.json").stat().st_size)
    assert refusal(merge("0.json", "1.json", "2.json")).startswith("the fleet takes 0.0 GB, and connbench reads files")
    assert not (tmp_path / "out.json").exists()


def test_faults_of_files_leave_no_file(merge: Merge, tmp_path: Path) -> None:
    """Each is told in two lines, before anything is written."""
    write(tmp_path / "a.json", run_of(1, "web1"))
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    assert refusal(merge("a.json", "broken.json"), ExitCode.INPUT) == "broken.json is cut off: its JSON does not end"
    assert (
        refusal(merge("a.json", "none.json"), ExitCode.INPUT) == "none.json cannot be read: No such file or directory"
    )
    assert refusal(merge("a.json", "-o", "x.txt")).startswith("-o x.txt: unknown ending '.txt'")
    assert refusal(merge("a.json", "-o", "a.json"), ExitCode.OUTPUT) == "-o a.json exists already"
    without = in_process("fleet", "merge", "a.json", cwd=tmp_path)
    assert refusal(without) == "fleet merge needs a file to write"
    assert refusal(in_process("fleet")).startswith("fleet needs a subcommand: ")
    assert refusal(in_process("fleet", "merge")).startswith("FILE... is missing for fleet merge")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "broken.json"]  # noqa: PTH208  # the names alone
    assert merge("a.json", "-o", "a.json", "--force").returncode == ExitCode.OK  # read before it is replaced
    assert names(tmp_path / "a.json") == ["web1"]
