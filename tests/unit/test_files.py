"""Result files: refused beforehand where they cannot be, and never left half written."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connbench.errors import OutputError, UsageError
from connbench.results.files import PICTURE_SUFFIXES, check_output, write_atomically

OLD = "what was there before"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no file larger than so many bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", "json"), ("a.csv", "csv"), ("a.b.json", "json"), ("a.json.gz", "json")],
)
def test_ending_decides_the_format(tmp_path: Path, name: str, expected: str) -> None:
    """The format of an output file is the one its name ends in, and looking leaves nothing behind."""
    assert check_output(tmp_path / name, force=False) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a.txt", "a.JSON", "a.csv.gz", ".json", ".json.gz", "a."])
def test_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    """A name that ends in no format is refused as wrong usage, with the endings there are."""
    with pytest.raises(UsageError, match="unknown ending") as caught:
        check_output(tmp_path / name, force=True)
    assert caught.value.hint == "use .json, .json.gz, .csv"


def test_pictures_have_endings_of_their_own(tmp_path: Path) -> None:
    """Where a picture is to be written, a result's ending is refused, and the hint names the pictures'."""
    assert check_output(tmp_path / "a.svg", force=False, suffixes=PICTURE_SUFFIXES) == "svg"
    with pytest.raises(UsageError, match="unknown ending") as caught:
        check_output(tmp_path / "a.json", force=False, suffixes=PICTURE_SUFFIXES)
    assert caught.value.hint == "use .png, .svg"


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    """A picture is no text: its bytes stay what they are."""
    write_atomically(tmp_path / "a.png", b"\x89PNG\r\n\x00")
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n\x00"


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(OutputError, match=f"folder {tmp_path / 'missing'} does not exist"):
        check_output(tmp_path / "missing" / "a.json", force=True)


def test_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """A folder cannot be replaced by a file, with --force neither."""
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match=r"a\.json is a folder"):
        check_output(tmp_path / "a.json", force=True)


def test_existing_file_needs_force(tmp_path: Path) -> None:
    """A file that exists is refused without --force and taken with it, and is left alone either way."""
    path = tmp_path / "a.csv"
    path.write_text(OLD)
    with pytest.raises(OutputError, match="exists already") as caught:
        check_output(path, force=False)
    assert "--force" in caught.value.hint
    assert check_output(path, force=True) == "csv"
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_place_where_nothing_can_be_made_is_refused() -> None:
    """A folder that takes no files, here /proc, is found out before anything is measured."""
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(Path("/proc/connbench.json"), force=False)


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "existing"])
def test_written_file_has_the_text_and_nothing_beside_it(tmp_path: Path, before: str | None) -> None:
    """A new file and an old one end up with the text, and no temporary file is left."""
    path = tmp_path / "a.json"
    if before is not None:
        path.write_text(before)
    write_atomically(path, "27.8 µs\n")
    assert path.read_text(encoding="utf-8") == "27.8 µs\n"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    """When the disk is full in the middle of writing, the old file stays whole and no half one is left."""
    path = tmp_path / "a.json"
    path.write_text(OLD)
    with files_of_at_most(1000), pytest.raises(OutputError, match="cannot be written: File too large"):
        write_atomically(path, "x" * 100_000)
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    """When the disk is full in the middle of a new file, nothing of it is left."""
    with files_of_at_most(1000), pytest.raises(OutputError):
        write_atomically(tmp_path / "a.json", "x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    """When the file's place is taken by a folder meanwhile, the folder stays and nothing lies beside it."""
    path = tmp_path / "a.json"
    path.mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(path, "text")
    assert list(tmp_path.iterdir()) == [path]
    assert list(path.iterdir()) == []


def test_write_to_a_folder_that_is_gone_is_an_output_error(tmp_path: Path) -> None:
    """A folder removed while the run went on ends in the error that names the file."""
    with pytest.raises(OutputError, match="No such file or directory"):
        write_atomically(tmp_path / "gone" / "a.json", "text")
