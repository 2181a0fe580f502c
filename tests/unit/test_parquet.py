"""Results as Parquet, read by pyarrow, DuckDB and pandas."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from connbench.errors import ExitCode, InputError, RunFault
from connbench.model import Load, Profile, StrategySpec
from connbench.report.parquet import KEY, parquet
from connbench.results.csv_file import HEADER
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.input_file import read
from connbench.results.result import Origin, Result, Round
from connbench.samples import COLUMNS
from factories import BIND, PLAIN, WINDOW, result_of, round_of, samples_of
from run_connbench import in_process

EXAMPLE = Path(__file__).parents[1] / "files" / "example.json.gz"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The Parquet file of a real run of 2,000 attempts, as `report -o` writes it."""
    path = tmp_path / "run.parquet"
    finished = in_process("report", str(EXAMPLE), "-o", str(path))
    assert (finished.returncode, finished.stdout) == (ExitCode.OK, "")
    return path


def test_duckdb_and_pandas_read_each_attempt(file: Path) -> None:
    """The columns are those of the CSV behind the label, with the values of the samples and their types."""
    result = read(EXAMPLE)
    grouped = duckdb.read_parquet(str(file)).aggregate("label, round, count(*), sum(connect_ns), min(port)")
    assert set(grouped.fetchall()) == {
        (s.strategy.label, r.number, len(r.samples), int(r.samples.connect_ns.sum()), int(r.samples.port.min()))
        for s in result.strategies
        for r in s.rounds
    }
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    [query] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    shown = duckdb.sql(query.replace("example.parquet", str(file)))
    assert shown is not None
    assert min(shown.fetchall())[:3] == ("plain", 0, 1000)
    frame = pd.read_parquet(file)
    assert list(frame.columns) == ["label", *HEADER]
    of_range = frame[(frame["label"] == "range") & (frame["round"] == 2)]
    samples = result.strategies[1].rounds[1].samples
    for column in COLUMNS:
        values = of_range[column.name].to_numpy()
        assert values.dtype == np.dtype(column.code)
        assert (values == samples.columns[column.name]).all()
    assert frame["fault"].isna().all()


def test_metadata_has_units_and_the_plan(file: Path) -> None:
    """Each column of an attempt says what it is; the file says what was run, where, and what was found."""
    schema = pq.read_schema(file)
    for column in COLUMNS:
        told = schema.field(column.name).metadata
        assert told[b"meaning"].decode() == column.meaning
        assert told.get(b"unit", b"").decode() == column.unit
    assert schema.field("give_up_ms").metadata == {b"unit": b"ms"}
    about = json.loads(schema.metadata[KEY.encode()])
    assert about["plan"]["port_range"] == {"low": 40000, "high": 40199}
    assert about["environment"]["kernel"] == read(EXAMPLE).kernel
    assert {finding["code"] for finding in about["findings"]} == {"cpu-load", "involuntary-switches"}


def frame_of(result: Result | Fleet, tmp_path: Path) -> pd.DataFrame:
    """A result as pandas reads its file."""
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet(result))
    return pd.read_parquet(path)


def test_each_kind_of_column_has_its_type(tmp_path: Path) -> None:
    """Whole numbers, words, lists and faults; a round without an attempt has no row."""
    profile = StrategySpec("plain", load=Load(profile=Profile((0.5, 1.0), 1), sysctls=("a=1",)))
    cut_short = replace(round_of(samples_of([1, 2])), fault=RunFault('stopped, "so"'))
    empty = replace(round_of(samples_of([])), number=2, fault=RunFault("at once"))
    frame = frame_of(result_of({WINDOW: [cut_short, empty], profile: [round_of(samples_of([3, 4]))]}), tmp_path)
    assert list(frame["label"]) == ["window 500"] * 2 + [profile.label] * 2
    assert frame["window"].tolist()[:2] == [500, 500]
    assert frame["window"].isna().tolist() == [False, False, True, True]
    assert frame["placement"].tolist()[:2] == ["inside", "inside"]
    assert frame["fault"].tolist()[:2] == ['stopped, "so"'] * 2
    assert list(frame["levels"].iloc[2]) == [0.5, 1.0]
    assert list(frame["sysctls"].iloc[2]) == ["a=1"]
    few = pq.read_schema(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(parquet(result_of({BIND: [round_of(samples_of([1]))]})))
    assert few.equals(pq.read_schema(tmp_path / "x.parquet"))  # the types do not depend on the values


def test_hosts_have_a_column_and_fractions_stay(tmp_path: Path) -> None:
    """The first one; times of a talk CSV keep their fractions of a nanosecond."""
    hosts = [
        HostRecord(name, replace(result_of({PLAIN: [round_of(samples_of([5]))]}), name=name), None) for name in "ab"
    ]
    frame = frame_of(Fleet((*hosts, HostRecord("c", None, RunFault("no ssh")))), tmp_path)
    assert frame.columns[0] == "host"
    assert frame["host"].tolist() == ["a", "b"]
    talk = Result(None, {}, origin=Origin.TALK_CSV)
    talk.add(PLAIN, Round(1, samples_of([1]).of(connect_ns=np.array([1.25]), port=np.array([9024], "H"))))
    assert frame_of(talk, tmp_path)["connect_ns"].tolist() == [1.25]


def test_connbench_does_not_read_it(file: Path) -> None:
    """And says which file it reads; other wrong ways to ask for it name the way out, too."""
    with pytest.raises(InputError, match="is Parquet, which connbench writes and does not read") as caught:
        read(file)
    assert caught.value.hint == "name the run's .json or .csv"
    for arguments, said in (
        (("-o", str(file)), "exists"),
        (("-o", str(file), "--format", "json"), "nothing is printed in --format json"),
        ((str(EXAMPLE), "-o", str(file)), "-o saves the result of one file, not of 2"),
    ):
        assert said in in_process("report", str(EXAMPLE), *arguments).stderr
    again = in_process("report", str(EXAMPLE), "-o", str(file), "--force", "--html", str(file.with_name("x.html")))
    assert again.returncode == ExitCode.OK
    assert file.with_name("x.html").exists()
