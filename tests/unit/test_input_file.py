"""Reading result files: recognised by their content, and refused in a sentence if they are none."""

from __future__ import annotations

import gzip
import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bombs import BOMBS
from connbench.errors import InputError, Interrupted
from connbench.report.formats import FORMATS
from connbench.results import input_file
from connbench.results.input_file import read
from connbench.results.output_file import Output
from connbench.results.result import Origin, Result
from factories import BIND, LONG, PLAIN, PLAN, result_of, round_of, samples_of, unhurried
from generated_results import facts

MIXED = samples_of([10_000, 20_000, 0, 400_000], errno=[0, 0, 98, 99], tries=[1, 2, 1, 1])
ONE = result_of({BIND: [round_of(MIXED)]})
SEVERAL = result_of({LONG: [round_of(MIXED), round_of(MIXED, 2)], PLAIN: [round_of(MIXED, fault=Interrupted(2))]})

JSON = FORMATS["json"](SEVERAL).encode()
WHOLE = {
    "json": JSON,
    "gzip": gzip.compress(JSON, 1, mtime=0),
    "csv": FORMATS["csv"](SEVERAL).encode(),
    "talk csv": FORMATS["talk-csv"](ONE).encode(),
}


def refusal(path: Path) -> InputError:
    """The reason why a file is refused, after a check of its form."""
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(path) in refused.value.message
    assert refused.value.hint
    assert "\n" not in refused.value.message + refused.value.hint
    return refused.value


def refusal_of(data: bytes, folder: Path) -> str:
    """The reason why a file with this content is refused."""
    path = folder / "x.json"
    path.write_bytes(data)
    return refusal(path).message


@pytest.mark.parametrize(
    ("name", "form", "origin"),
    [
        ("r.json", "json", Origin.RUN),
        ("r.json.gz", "json", Origin.RUN),
        ("r.csv", "csv", Origin.CSV),
        ("r.txt", "talk-csv", Origin.TALK_CSV),
        ("json.csv", "json", Origin.RUN),
        ("csv.gz", "csv", Origin.CSV),
    ],
)
def test_every_form_is_known_by_what_it_holds(name: str, form: str, origin: Origin, tmp_path: Path) -> None:
    """What `-o` writes is read back under any name, packed or not; the result knows the file's name."""
    path = tmp_path / name
    with Output(path, force=True) as output:
        output.save(FORMATS[form](ONE))
    result = read(path)
    assert (result.origin, result.name) == (origin, str(path))
    [strategy] = result.strategies
    if origin is not Origin.TALK_CSV:
        assert strategy.strategy == BIND
        assert facts(strategy.samples) == facts(MIXED)


def test_byte_order_mark_is_no_part_of_a_csv(tmp_path: Path) -> None:
    """Spreadsheets put three bytes before the text; they mean nothing."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" + FORMATS["csv"](ONE).encode())
    assert read(path).origin is Origin.CSV


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """The message about a missing file is the system's."""
    assert "No such file or directory" in refusal(tmp_path / "x.json").message


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no result."""
    assert "Is a directory" in refusal(tmp_path).message


def test_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message about a file that may not be read is the system's."""
    path = tmp_path / "x.json"
    path.write_bytes(JSON)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def refuse(_: Path, _mode: str) -> bytes:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in refusal(path).message


@pytest.mark.parametrize(
    "data", [b"", b" ", b"\n\n", b" \t\r\n", gzip.compress(b"", mtime=0), gzip.compress(b" \n", mtime=0)]
)
def test_empty_file_is_refused(data: bytes, tmp_path: Path) -> None:
    """A file with nothing, or only white space, is refused as empty, packed too."""
    assert refusal_of(data, tmp_path).endswith("x.json is empty")


@pytest.mark.parametrize("form", WHOLE)
def test_file_larger_than_any_result_is_refused(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file one byte too large, packed or not, is refused; one of exactly the largest size is read."""
    size = len(JSON if form == "gzip" else WHOLE[form])
    monkeypatch.setattr(input_file, "LARGEST_FILE", size)
    path = tmp_path / "x.json"
    path.write_bytes(WHOLE[form])
    assert read(path).rounds
    monkeypatch.setattr(input_file, "LARGEST_FILE", size - 1)
    assert refusal(path).message.endswith("x.json is not a result file: it holds more than 0 GiB")


def test_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed file is judged by its unpacked size, and no more than the limit is unpacked."""
    monkeypatch.setattr(input_file, "LARGEST_FILE", 100_000)
    data = gzip.compress(b" " * 10_000_000, mtime=0)
    assert len(data) < 100_000
    assert "is not a result file: it holds more than " in refusal_of(data, tmp_path)


@pytest.mark.parametrize("form", WHOLE)
def test_small_file_takes_little_memory(form: str, tmp_path: Path) -> None:
    """A file of kilobytes is read where there is no memory for the largest file."""
    path = tmp_path / "x.json"
    path.write_bytes(WHOLE[form])
    tracemalloc.start()
    try:
        read(path)
        assert tracemalloc.get_traced_memory()[1] < input_file.LARGEST_FILE // 16
    finally:
        tracemalloc.stop()


def test_memory_of_reading_is_limited_and_the_limit_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading any file takes a bounded amount of memory; afterwards the process has its own limit."""
    path = tmp_path / "x.json"
    _, make = BOMBS["30 MB of zeros in a column"]
    path.write_bytes(make())
    monkeypatch.setattr(input_file, "MEMORY", 20 << 20)
    monkeypatch.setattr(input_file, "MEMORY_TIMES", 0)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert "takes more memory to read than there is, or than the 20 MiB for a file of its size" in refusal(path).message
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_largest_file_is_in_gibibytes() -> None:
    """The limit is a whole number of them, and a million attempts stay far below it."""
    assert input_file.LARGEST_FILE % (1 << 30) == 0
    assert input_file.LARGEST_FILE >= 1 << 30


@pytest.mark.parametrize(
    "data",
    [
        FORMATS["csv"](Result(None, {}, origin=Origin.CSV)).encode(),
        FORMATS["json"](Result(PLAN, {})).encode(),
        gzip.compress(FORMATS["json"](Result(PLAN, {})).encode(), mtime=0),
    ],
    ids=["csv", "json", "gzip"],
)
def test_file_without_attempts_is_refused(data: bytes, tmp_path: Path) -> None:
    """A header alone, or a document without a strategy, has nothing to report, compare or draw."""
    assert refusal_of(data, tmp_path).endswith("x.json holds no attempts")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("form", ["json", "gzip"])
def test_truncated_json_is_reported_as_cut_off(form: str, share: float, tmp_path: Path) -> None:
    """At whatever byte a copy ended, the message names the cut."""
    data = WHOLE[form]
    assert "x.json is cut off: " in refusal_of(data[: max(3, int(len(data) * share))], tmp_path)


@pytest.mark.parametrize("form", ["csv", "talk csv"])
def test_csv_cut_off_within_a_line_is_never_read(form: str, tmp_path: Path) -> None:
    """A copy that ended anywhere but at a line's end is refused; at a line's end nothing shows that more followed."""
    data = WHOLE[form]
    for end in range(3, len(data)):
        if data[end - 1 : end] != b"\n":
            refusal_of(data[:end], tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not text from byte 0 on"),
        (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)), "not text from byte 136 on"),
        (b"name,value\n1,2\n", "it begins with 'name,value'"),
        (b"strategy,round,port\nplain,1,9024\n", "it begins with 'strategy,round,port'"),
        (b"<html></html>", "it begins with '<html></html>'"),
        (b"\n9024,0.1\n", "it begins with ''"),
        (b"9024,0.1\nhello\n", "line 2: 'hello' is not port,seconds"),
        (b'{"a": NaN}', "is broken"),
        (b"{'a': 1}", "is broken"),
        (b"[1, 2]", "not a result of connbench"),
        (b"[" * 100_000, "not a result of connbench"),
        (b'{"a":' * 100_000, "is broken: its JSON is nested too deeply"),
        (gzip.compress(b"hello", mtime=0), "it begins with 'hello'"),
        (gzip.compress(JSON, mtime=0)[:-8] + b"\0" * 8, "is broken: CRC check failed"),
        (b"\x1f\x8b\x08\xff" + b"x" * 50, "is "),
        (b"\x1f\x8bxxx", "is "),
    ],
)
def test_foreign_file_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    """The message about a picture, a program, a page or a foreign table shows its first bytes."""
    assert reason in refusal_of(data, tmp_path)


def test_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    """A file name may be any bytes; a mark stands for those that are no text."""
    path = tmp_path / os.fsdecode(b"\xff.csv")
    path.write_bytes(WHOLE["talk csv"])
    result = read(path)
    assert result.name.encode().endswith("/\ufffd.csv".encode())
    assert all(FORMATS[form](result).encode() for form in FORMATS)


def _changed(data: bytes, position: int, byte: int) -> bytes:
    return data[:position] + bytes([byte]) + data[position + 1 :]


def _inserted(data: bytes, position: int, byte: int) -> bytes:
    return data[:position] + bytes([byte]) + data[position:]


def _cut(data: bytes, position: int, _: int) -> bytes:
    return data[:position]


TELLING = st.sampled_from(b'0123456789-+.eE,"#\n\r\t {}[]:\\\x00\x0b\x1c\x85\xe2') | st.integers(0, 255)


@pytest.mark.parametrize("form", WHOLE)
@settings(unhurried, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_file_is_read_or_refused(form: str, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever single byte is changed, added or cut off, the outcome is a result or an InputError."""
    damage: Callable[[bytes, int, int], bytes] = data.draw(st.sampled_from([_changed, _changed, _inserted, _cut]))
    whole = WHOLE[form]
    path = tmp_path / "x.json"
    path.write_bytes(damage(whole, data.draw(st.integers(0, len(whole) - 1)), data.draw(TELLING)))
    result: Result | None = None
    try:
        result = read(path)
    except InputError as error:
        assert str(path) in error.message  # noqa: PT017  # either is right
    if result is not None and result.strategies:
        assert all(FORMATS[form](result) for form in ("text", "json", "csv", "markdown", "prometheus"))
