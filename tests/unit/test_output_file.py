"""Output files: refused beforehand where they cannot be written, never half written, and never over another user's."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import OutputError, UsageError
from connbench.linux import renameat2
from connbench.results.output_file import (
    PICTURE_SUFFIXES,
    Output,
    SavedElsewhereError,
    format_of,
)

OLD = "what was there before"
NOBODY = 65534
TEMPORARY = re.compile(r"\.connbench-[0-9a-f]{16}\.tmp")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user, and be another")


def save(path: Path, content: str | bytes) -> None:
    """Save a file as a command with --force does."""
    with Output(path, force=True) as output:
        output.save(content)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no file larger than `size` bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Become another user, with the rights that the folder's mode gives."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def sticky(tmp_path: Path) -> Path:
    """A folder like /tmp: every user may add files, and remove their own."""
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def by_nobody(path: Path) -> Path:
    """Give a file, or a link itself, to another user, as far as this user may."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def check(path: Path, *, force: bool = False) -> None:
    """Reserve a file, and release it without a save."""
    Output(path, force=force).close()


def run_python(code: str, *arguments: str) -> list[str]:
    """The output of a fresh Python, by line."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", "json"), ("a.csv", "csv"), ("a.b.json", "json"), ("a.json.gz", "json")],
)
def test_ending_decides_the_format(tmp_path: Path, name: str, expected: str) -> None:
    """The format of an output file follows from its name's ending, and reserving it leaves nothing."""
    assert format_of(tmp_path / name) == expected
    check(tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a.txt", "a.JSON", "a.csv.gz", ".json", ".json.gz", "a."])
def test_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    """A name with an unknown ending is wrong usage; the message lists the endings."""
    with pytest.raises(UsageError, match="unknown ending") as caught:
        format_of(tmp_path / name)
    assert caught.value.hint == "use .json, .json.gz, .csv, .parquet"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_stdout_by_name_is_refused_with_the_way_to_it(name: str) -> None:
    """Many programs take `-o -` for stdout: the refusal says what prints a result there."""
    with pytest.raises(UsageError, match="unknown ending") as caught:
        format_of(Path(name))
    assert caught.value.hint == "use .json, .json.gz, .csv, .parquet; without -o, --format json prints it to stdout"


def test_pictures_have_endings_of_their_own(tmp_path: Path) -> None:
    """For a picture a result's ending is refused, and the hint names the pictures'."""
    assert format_of(tmp_path / "a.svg", PICTURE_SUFFIXES) == "svg"
    with pytest.raises(UsageError, match="unknown ending") as caught:
        format_of(tmp_path / "a.json", PICTURE_SUFFIXES)
    assert caught.value.hint == "use .png, .svg"


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    """A picture is no text: its bytes are unchanged."""
    save(tmp_path / "a.png", b"\x89PNG\r\n\x00")
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG\r\n\x00"


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """The message names the missing folder."""
    with pytest.raises(OutputError, match=f"folder {tmp_path / 'missing'} does not exist"):
        check(tmp_path / "missing" / "a.json", force=True)


def test_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """A folder cannot be replaced by a file, with --force neither."""
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match=r"a\.json is a folder"):
        check(tmp_path / "a.json", force=True)


def test_existing_file_needs_force(tmp_path: Path) -> None:
    """An existing file is refused without --force and accepted with it, and is unchanged either way."""
    path = tmp_path / "a.csv"
    path.write_text(OLD)
    with pytest.raises(OutputError, match="exists already") as caught:
        check(path)
    assert "--force" in caught.value.hint
    check(path, force=True)
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_place_where_nothing_can_be_made_is_refused() -> None:
    """The command finds a folder that takes no files, here /proc, before it measures."""
    with pytest.raises(OutputError, match="cannot be written"):
        check(Path("/proc/connbench.json"))


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "existing"])
def test_written_file_has_the_text_and_nothing_beside_it(tmp_path: Path, before: str | None) -> None:
    """A new file and an old one get the text, and no temporary file is left."""
    path = tmp_path / "a.json"
    if before is not None:
        path.write_text(before)
    save(path, "27.8 µs\n")
    assert path.read_text(encoding="utf-8") == "27.8 µs\n"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    """When the disk fills up during the write, the old file stays whole and no half one is left."""
    path = tmp_path / "a.json"
    path.write_text(OLD)
    with files_of_at_most(1000), pytest.raises(OutputError, match="cannot be written: File too large"):
        save(path, "x" * 100_000)
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    """When the disk fills up during the write of a new file, nothing of it is left."""
    with files_of_at_most(1000), pytest.raises(OutputError):
        save(tmp_path / "a.json", "x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_write_to_a_folder_that_is_gone_is_an_output_error(tmp_path: Path) -> None:
    """If the folder is removed during the run, the error names it."""
    folder = tmp_path / "gone"
    folder.mkdir()
    with Output(folder / "a.json") as output:
        folder.rmdir()
        with pytest.raises(OutputError, match=f"folder {folder} does not exist"):
            output.save("text")


def test_a_folder_that_was_made_anew_gets_the_file(tmp_path: Path) -> None:
    """If the folder is removed and made again during the run, the file goes to the new one."""
    folder = tmp_path / "results"
    folder.mkdir()
    with Output(folder / "a.json") as output:
        folder.rmdir()
        folder.mkdir()
        output.save("text")
    assert names(folder) == ["a.json"]


def test_the_folder_that_was_checked_gets_the_file(tmp_path: Path) -> None:
    """A link that takes the folder's place meanwhile does not lead the file elsewhere."""
    folder, moved, elsewhere = (tmp_path / name for name in ("results", "moved", "elsewhere"))
    folder.mkdir()
    elsewhere.mkdir()
    with Output(folder / "a.json") as output:
        folder.rename(moved)
        folder.symlink_to(elsewhere)
        output.save("text")
    assert (names(moved), names(elsewhere)) == (["a.json"], [])


def link_to_itself(path: Path) -> None:
    """A loop of links."""
    path.symlink_to(path.name)


def link_to_nothing(path: Path) -> None:
    """A link to a missing file."""
    path.symlink_to("other.json")


def link_to_file(path: Path) -> None:
    """A link to an existing file."""
    path.with_name("other.json").write_text(OLD)
    path.symlink_to("other.json")


def folder(path: Path) -> None:
    """A folder."""
    path.mkdir()


def fifo(path: Path) -> None:
    """A named pipe."""
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


STRANGE: dict[Callable[[Path], None], str] = {
    link_to_itself: "a symbolic link",
    link_to_nothing: "a symbolic link",
    link_to_file: "a symbolic link",
    folder: "a folder",
    fifo: "a FIFO",
    unix_socket: "a socket",
}
"""Kinds that an output file cannot have, and how messages name them."""


@pytest.mark.parametrize("force", [False, True], ids=["new", "force"])
@pytest.mark.parametrize("make", STRANGE, ids=lambda make: make.__name__)
def test_what_is_no_regular_file_is_refused(make: Callable[[Path], None], *, force: bool, tmp_path: Path) -> None:
    """Links, folders and pipes are neither followed nor replaced, even with --force; the message names the kind."""
    make(tmp_path / "a.json")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=STRANGE[make]):
        check(tmp_path / "a.json", force=force)
    assert names(tmp_path) == before


@pytest.mark.parametrize("force", [False, True], ids=["new", "force"])
@pytest.mark.parametrize("make", STRANGE, ids=lambda make: make.__name__)
def test_what_is_no_regular_file_and_appears_meanwhile_stays(
    make: Callable[[Path], None], *, force: bool, sticky: Path
) -> None:
    """What another user creates after the start is unchanged, and so is the target of a link; nothing is lost."""
    path = sticky / "a.json"
    with Output(path, force=force) as output:
        make(path)
        by_nobody(path)
        before = path.lstat()
        others = {name: (sticky / name).lstat() for name in names(sticky)}
        with pytest.raises(SavedElsewhereError, match=f"{STRANGE[make]} of that name appeared") as caught:
            output.save("text")
    (kept,) = set(names(sticky)) - set(others)
    assert path.lstat() == before
    assert {name: (sticky / name).lstat() for name in others} == others
    assert (sticky / kept).read_text() == "text"
    assert str(sticky / kept) in caught.value.hint


@needs_root
def test_a_link_planted_by_another_user_opens_no_file_of_root(sticky: Path, tmp_path: Path) -> None:
    """In a sticky folder root's result does not follow another user's link, and no mode becomes wider."""
    secret = tmp_path / "secret"
    secret.write_text(OLD)
    secret.chmod(0o600)
    with Output(sticky / "a.json") as output:
        (sticky / "a.json").symlink_to(secret)
        by_nobody(sticky / "a.json")
        with pytest.raises(SavedElsewhereError):
            output.save("text")
    assert secret.read_text() == OLD
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    """Without --force a file that appears after the start stays; all further saves go to the one beside."""
    path = tmp_path / "a.json.gz"
    with Output(path) as output:
        path.write_text(OLD)
        for text in ("first", "second"):
            with pytest.raises(SavedElsewhereError, match=r"a\.json\.gz cannot be written: another file"):
                output.save(text)
    assert path.read_text() == OLD
    (kept,) = set(names(tmp_path)) - {path.name}
    assert re.fullmatch(r"a\.kept-[0-9a-f]{8}\.json\.gz", kept)
    assert gzip.decompress((tmp_path / kept).read_bytes()) == b"second"


def test_a_file_that_took_the_place_of_ours_stays(tmp_path: Path) -> None:
    """Without --force a save replaces the file of the save before it, and no other that now has its name."""
    path = tmp_path / "a.json"
    with Output(path) as output:
        output.save("first")
        output.save("second")
        assert path.read_text() == "second"
        path.unlink()
        path.write_text(OLD)
        with pytest.raises(SavedElsewhereError):
            output.save("third")
    assert path.read_text() == OLD
    (kept,) = set(names(tmp_path)) - {path.name}
    assert (tmp_path / kept).read_text() == "third"


def test_a_file_that_takes_the_place_of_ours_at_the_last_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of a name and the call that replaces, another file may appear: it is put back."""
    path = tmp_path / "a.json"
    rename = renameat2.rename_file

    def late(*arguments: Any) -> None:  # noqa: ANN401  # those of rename
        monkeypatch.undo()
        path.unlink()
        path.write_text(OLD)
        rename(*arguments)

    with Output(path) as output:
        output.save("first")
        monkeypatch.setattr(renameat2, "rename_file", late)
        with pytest.raises(SavedElsewhereError):
            output.save("second")
    assert path.read_text() == OLD
    (kept,) = set(names(tmp_path)) - {path.name}
    assert (tmp_path / kept).read_text() == "second"


def test_a_file_that_appears_at_the_last_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check of a name and the call that creates it, another file may appear: it stays."""
    path = tmp_path / "a.json"
    link = os.link

    def late(*arguments: Any, **keywords: Any) -> None:  # noqa: ANN401  # those of os.link
        monkeypatch.undo()
        path.write_text(OLD)
        link(*arguments, **keywords)

    with Output(path) as output:
        monkeypatch.setattr(os, "link", late)
        with pytest.raises(SavedElsewhereError):
            output.save("text")
    assert path.read_text() == OLD
    (kept,) = set(names(tmp_path)) - {path.name}
    assert (tmp_path / kept).read_text() == "text"


def test_a_file_that_was_removed_is_written_again(tmp_path: Path) -> None:
    """If the file is removed or moved between two saves, the next save writes one under its name."""
    path = tmp_path / "a.json"
    with Output(path) as output:
        output.save("first")
        path.rename(tmp_path / "moved.json")
        output.save("second")
    assert path.read_text() == "second"
    assert (tmp_path / "moved.json").read_text() == "first"


def test_the_longest_name_has_room_for_another_beside_it(tmp_path: Path) -> None:
    """The result is kept where the asked-for name has the greatest length."""
    path = tmp_path / ("a" * 250 + ".json")
    with Output(path) as output:
        path.write_text(OLD)
        with pytest.raises(SavedElsewhereError):
            output.save("text")
    assert sorted(entry.read_text() for entry in tmp_path.iterdir()) == sorted([OLD, "text"])


def test_force_replaces_a_file_that_appears_meanwhile(tmp_path: Path) -> None:
    """--force replaces it."""
    path = tmp_path / "a.json"
    with Output(path, force=True) as output:
        path.write_text(OLD)
        output.save("text")
    assert (names(tmp_path), path.read_text()) == (["a.json"], "text")


@needs_root
def test_force_keeps_mode_and_owner(tmp_path: Path) -> None:
    """A replaced file keeps its owner and its mode, through several saves."""
    path = tmp_path / "a.json"
    path.write_text(OLD)
    path.chmod(0o640)
    by_nobody(path)
    with Output(path, force=True) as output:
        for text in ("first", "second"):
            output.save(text)
            found = path.stat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, NOBODY, NOBODY)
            assert path.read_text() == text


def test_force_keeps_the_acl(tmp_path: Path) -> None:
    """An entry of the ACL for one more user is no part of the mode."""
    path, name = tmp_path / "a.json", "system.posix_acl_access"
    entries = ((0x01, 6, -1), (0x02, 4, 1234), (0x04, 0, -1), (0x10, 4, -1), (0x20, 0, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)  # <linux/posix_acl_xattr.h>
    path.write_text(OLD)
    try:
        os.setxattr(path, name, acl)
    except OSError as error:
        pytest.skip(f"this file system has no ACL: {error.strerror}")
    with Output(path, force=True) as output:
        output.save("text")
    assert os.getxattr(path, name) == acl
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@needs_root
def test_force_opens_a_file_to_nobody_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the group cannot be kept, another group does not get its rights."""
    tmp_path.chmod(0o777)
    path = tmp_path / "a.json"
    path.write_text(OLD)
    path.chmod(0o666)
    with Output(path, force=True) as output:
        output.save("root's")
    path.chmod(0o662)  # so that nobody may write it, as --force asks for
    monkeypatch.chdir(tmp_path)  # a user who may not go through the folders above
    with as_nobody(), Output(Path("a.json"), force=True) as output:
        output.save("nobody's")
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o622, NOBODY)


def test_a_link_that_takes_the_place_of_a_file_at_the_last_moment_lends_no_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links have mode 0777: a file that is kept beside one may be written by its owner alone."""
    path, kept_open = tmp_path / "a.json", os.open

    def late(name: Any, *arguments: Any, **keywords: Any) -> int:  # noqa: ANN401  # those of os.open
        if name == path.name:
            path.unlink()
            path.symlink_to(path.name)
        return kept_open(name, *arguments, **keywords)

    path.write_text(OLD)
    with Output(path, force=True) as output:
        monkeypatch.setattr(os, "open", late)
        with pytest.raises(SavedElsewhereError):
            output.save("text")
        monkeypatch.undo()
    (kept,) = set(names(tmp_path)) - {path.name}
    assert stat.S_IMODE((tmp_path / kept).stat().st_mode) & 0o022 == 0


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    """A new file has the usual mode."""
    before = os.umask(0o027)
    try:
        save(tmp_path / "a.json", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_what_an_earlier_release_left_is_neither_used_nor_removed(tmp_path: Path) -> None:
    """Its temporary had the process's id in its name: in a container ids repeat, and any user can put a link there."""
    left, target = tmp_path / f".connbench-{os.getpid()}.tmp", tmp_path / "target"
    target.write_text(OLD)
    left.symlink_to(target)
    save(tmp_path / "a.json", "text")
    assert names(tmp_path) == [left.name, "a.json", "target"]
    assert target.read_text() == OLD
    assert left.is_symlink()


def test_the_disk_has_the_content_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync() of the file precedes its name, that of the folder follows it: a crash leaves no empty file."""
    told: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        told.append((stat.filemode(os.fstat(descriptor).st_mode)[0], names(tmp_path)))
        fsync(descriptor)

    with Output(tmp_path / "a.json") as output:
        monkeypatch.setattr(os, "fsync", seen)
        output.save("text")
    assert told == [("-", []), ("d", ["a.json"])]


RESERVE = """
import sys
from pathlib import Path
from connbench.results.output_file import Output
output = Output(Path(sys.argv[1]))
print("reserved", flush=True)
sys.stdin.read()
"""


@contextmanager
def reserved_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has reserved the file."""
    process = subprocess.Popen(
        [sys.executable, "-c", RESERVE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "reserved\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_one_writes_a_file_at_a_time(tmp_path: Path) -> None:
    """A second run is refused at once, by another path to the folder too; another file of the folder is free."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    with reserved_elsewhere(tmp_path / "real" / "a.json") as other:
        for force in (False, True):
            with pytest.raises(
                OutputError, match=f"another run of connbench, process {other.pid}, is writing"
            ) as caught:
                check(tmp_path / "linked" / "a.json", force=force)
            assert caught.value.hint == "name another file, or wait until it ends"
        check(tmp_path / "real" / "b.json")
        other.send_signal(signal.SIGKILL)
        other.wait()
        check(tmp_path / "real" / "a.json")
    assert names(tmp_path / "real") == []


def name_of_lock(path: Path) -> bytes:
    """The abstract address that reserves a file, as /proc/net/unix shows it to every user."""

    def shown() -> set[str]:
        lines = Path("/proc/net/unix").read_text(encoding="ascii").splitlines()
        return {line.split()[-1] for line in lines if "@connbench-output-" in line}

    before = shown()
    with Output(path):
        (found,) = shown() - before
    return b"\0" + found.removeprefix("@").encode()


@needs_root
@pytest.mark.parametrize(("mode", "is_heeded"), [(0o755, False), (0o1777, True)], ids=["closed", "open"])
def test_who_cannot_write_to_the_folder_cannot_reserve_in_it(mode: int, *, is_heeded: bool, tmp_path: Path) -> None:
    """A user who takes the lock of a file in a folder closed to that user prevents no write."""
    tmp_path.chmod(mode)
    address = name_of_lock(tmp_path / "a.json")
    with socket.socket(socket.AF_UNIX) as squatter:
        with as_nobody():
            squatter.bind(address)
            squatter.listen()
        if is_heeded:
            with pytest.raises(OutputError, match="another run of connbench"):
                check(tmp_path / "a.json")
        else:
            save(tmp_path / "a.json", "text")


KILL = """
import json, os, signal, sys
from itertools import count
from pathlib import Path
from connbench.results.output_file import Output
import faulty_host, platform
folder, case, *denied = sys.argv[1:]
for name in denied:
    faulty_host.install(faulty_host.DENIALS[name].program(faulty_host.SYSTEM_CALLS[platform.machine()]))
for n in count(1):
    path = Path(folder, str(n), "a.json")
    path.parent.mkdir()
    pid = os.fork()
    if pid == 0:
        if case == "force":
            path.write_text("old")
        output = Output(path, force=case == "force")
        if case == "again":
            output.save("old")
        seen = count(1)
        def look(event, arguments):
            if event in {"open", "os.link", "os.rename", "os.remove"} and next(seen) == n:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(look)
        output.save("new")
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    content = path.read_text() if path.exists() else None
    others = [name for name in os.listdir(path.parent) if name != "a.json"]
    with Output(path, force=True) as output:
        output.save("later")
    print(json.dumps([content, others, path.read_text()]))
    if status == 0:
        break
"""
"""Save in a child that kills itself before its n-th call that names a file; check the folder; save again."""


@pytest.mark.parametrize("denied", [(), ("tmpfile",)], ids=["unnamed", "named"])
@pytest.mark.parametrize("case", ["new", "again", "force"])
def test_a_kill_during_a_save(case: str, denied: tuple[str, ...], tmp_path: Path) -> None:
    """SIGKILL at any of its calls leaves the old file or the new one, whole; the next run works as usual.

    A new file leaves nothing beside it. Where one is replaced, one with a name that is never used again may stay.
    """
    ends = [json.loads(line) for line in run_python(KILL, str(tmp_path), case, *denied)]
    assert len(ends) >= 4
    assert ends[-1][0] == "new"
    assert ends[-1][1] == []
    for content, others, later in ends:
        assert content in ("new", None if case == "new" else "old")
        assert later == "later"
        assert len(others) <= (0 if case == "new" and not denied else 1)
        assert all(TEMPORARY.fullmatch(name) for name in others)
    left = [name for _, others, _ in ends for name in others]
    assert len(set(left)) == len(left)


WITHOUT = """
import os, platform, sys
from pathlib import Path
import faulty_host
from connbench.results.output_file import Output, SavedElsewhereError
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    faulty_host.install(faulty_host.DENIALS[name].program(faulty_host.SYSTEM_CALLS[platform.machine()]))
with Output(folder / "new.json") as output:
    for text in ("first", "second"):
        output.save(text)
with Output(folder / "taken.json") as output:
    (folder / "taken.json").write_text("another's")
    try:
        output.save("kept")
    except SavedElsewhereError as error:
        (kept,) = folder.glob("taken.kept-*.json")
        assert kept.name in error.hint
        kept.rename(folder / "kept.json")
with Output(folder / "late.json") as output:
    output.save("first")
    (folder / "late.json").unlink()
    (folder / "late.json").write_text("another's")
    try:
        output.save("kept")
    except SavedElsewhereError as error:
        (kept,) = folder.glob("late.kept-*.json")
        kept.rename(folder / "late-kept.json")
(folder / "old.json").write_text("old")
(folder / "old.json").chmod(0o600)
with Output(folder / "old.json", force=True) as output:
    output.save("replaced")
assert (folder / "old.json").stat().st_mode & 0o777 == 0o600
for entry in sorted(folder.iterdir()):
    print(entry.name, entry.read_text())
"""


@pytest.mark.parametrize(
    "denied",
    [(), ("tmpfile",), ("link",), ("renameat2",), ("tmpfile", "link"), ("tmpfile", "link", "renameat2")],
    ids="-".join,
)
def test_every_file_system_does(denied: tuple[str, ...], tmp_path: Path) -> None:
    """Where the kernel refuses O_TMPFILE, link() and flags of renameat2(), as on FAT and NFS, all promises hold."""
    assert run_python(WITHOUT, str(tmp_path), *denied) == [
        "kept.json kept",
        "late-kept.json kept",
        "late.json another's",
        "new.json second",
        "old.json replaced",
        "taken.json another's",
    ]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("loop/a.json", "Too many levels of symbolic links"),
        ("file/a.json", "file is not a folder"),
        ("file/folder/a.json", "file/folder is not a folder"),
        ("a" * 300 + ".json", "File name too long"),
        ("a/" * 3000 + "a.json", "File name too long"),
        (os.fsdecode(b"missing/\xff\n.json"), "-o missing/\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.json"),
    ],
    ids=["loop", "file", "below a file", "long name", "long path", "bytes"],
)
def test_paths_that_cannot_be(path: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that cannot exist is an output error in printable words."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    with pytest.raises(OutputError) as caught:
        check(Path(path))
    assert says in caught.value.message
    assert len(caught.value.message) < 1200


def test_a_name_of_any_bytes_is_written(tmp_path: Path) -> None:
    """A file name is bytes; these are no UTF-8, and end no line."""
    path = tmp_path / os.fsdecode(b"\xff\n.json")
    save(path, "text")
    assert [os.fsencode(name) for name in names(tmp_path)] == [b"\xff\n.json"]
