"""`connbench inspect FILE`: dumps of another host, good ones and hostile ones, read by the installed command."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from run_connbench import COMMAND, HANG_S, bounded, connbench, in_process

MB = 1_000_000
LINE = "ESTAB 0 0 10.0.0.1:{} 10.9.9.9:443\n"
DUMP = "".join(LINE.format(port) for port in range(40_000, 40_010))
OF_DEVICE = "ESTAB 0 0 [fe80::1]%eth7:40000 [fe80::2]:443\n"


def inspected(path: Path, *arguments: str) -> dict[str, Any]:
    """The JSON document about a file."""
    done = in_process("inspect", str(path), "--format", "json", *arguments)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A dump of ten connections to one target."""
    path = tmp_path / "dump"
    path.write_text(DUMP, encoding="ascii")
    return path


def test_file_has_the_settings_that_options_say(dump: Path) -> None:
    """What no option says is assumed, and the report says so with the option."""
    found = inspected(dump)
    assert found["assumed"] == [
        "ports 32768-60999 (--port-range)",
        "none of them reserved (--reserved-ports)",
        "tcp_tw_reuse 2 (--tcp-tw-reuse)",
    ]
    assert found["algorithm_known_by"] == "assumed; --algorithm names another"
    options = ("--port-range", "40000-40019", "--reserved-ports", "40001,40018", "--tcp-tw-reuse", "0")
    told = inspected(dump, *options, "--algorithm", "pre-6.8")
    assert (told["assumed"], told["algorithm"]) == ([], "pre-6.8")
    [row] = told["rows"]
    assert (row["used"], row["usable"], row["outside"]) == (9, 18, 1)
    [namespace] = told["namespaces"]
    assert (namespace["file"], namespace["tcp_tw_reuse"], namespace["kernel"]) == (str(dump), 0, None)


def test_another_range_is_suspected(tmp_path: Path) -> None:
    """Most local ports lie outside the assumed range; if --port-range is given, nothing is assumed."""
    path = tmp_path / "dump"
    path.write_text("".join(LINE.format(port) for port in range(12_000, 12_010)), encoding="ascii")
    done = in_process("inspect", str(path))
    assert "10 of 10 outgoing connections have local ports outside the assumed 32768-60999" in done.stdout
    assert "outside" not in in_process("inspect", str(path), "--port-range", "10000-65535").stdout


def test_several_dumps_in_a_file_are_suspected(tmp_path: Path) -> None:
    """A connection is there once; listed twice, it counts twice, although its port counts once."""
    path = tmp_path / "dump"
    path.write_text(f"$ ss -tan\n{DUMP}$ ss -tan\n{DUMP}{LINE.format(40_010)}", encoding="ascii")
    assert "10 of 21 connections are listed before" in in_process("inspect", str(path)).stdout
    path.write_text(DUMP + LINE.format(40_000), encoding="ascii")
    assert "listed before" not in in_process("inspect", str(path)).stdout


def test_device_has_the_name_that_the_file_gives_it(tmp_path: Path) -> None:
    """Its index on that host is unknown, and an index of this host means another device."""
    path = tmp_path / "dump"
    path.write_text(OF_DEVICE, encoding="ascii")
    assert "fe80::1%eth7 -> [fe80::2]:443" in in_process("inspect", str(path)).stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_stdin_is_read(pack: Callable[[bytes], bytes]) -> None:
    """`ss -tano | connbench inspect -`, packed or not; a message names it so."""
    done = subprocess.run(
        [COMMAND, "inspect", "-"], input=pack(DUMP.encode()), capture_output=True, timeout=HANG_S, check=False
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, b"")
    assert b"10 sockets of stdin" in done.stdout
    refused = connbench("inspect", "-", input=DUMP + "and so on\n")
    assert refused.returncode == ExitCode.INPUT
    assert refused.stderr.startswith("connbench: stdin, line 11: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port-range", "40000-40009"), "--port-range is for FILE"),
        (("--reserved-ports", ""), "--reserved-ports is for FILE"),
        (("--tcp-tw-reuse", "0"), "--tcp-tw-reuse is for FILE"),
        (("FILE", "--watch", "1"), "--watch is for this host"),
        (("FILE", "--exporter", "127.0.0.1:9000"), "--exporter is for this host"),
        (("FILE", "--process"), "--process is for this host"),
        (("FILE", "--port-range", "9-1"), "reversed"),
    ],
)
def test_options_without_a_meaning_are_refused(arguments: tuple[str, ...], words: str, dump: Path) -> None:
    """Options that describe a host belong to a FILE, and those that follow a host to no FILE."""
    done = in_process("inspect", *(str(dump) if word == "FILE" else word for word in arguments))
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert words in done.stderr


def packed(begin: bytes, middle: bytes) -> bytes:
    """A gzip of a gigabyte."""
    return gzip.compress(begin) + gzip.compress(middle * (10 * MB // len(middle)), 9) * 100


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "gzip of a gigabyte of line ends": (lambda: packed(DUMP.encode(), b"\n"), "unpacks to more than 100 times"),
    "gzip of a gigabyte of blanks": (lambda: packed(b"", b" "), "is no dump of sockets"),
    "gzip of one socket a hundred million times": (
        lambda: packed(b"", LINE.format(5).encode()),
        "unpacks to more than 100 times",
    ),
    "gzip without an end": (lambda: gzip.compress(DUMP.encode() * 9)[:-9], "is cut off"),
    "no gzip behind its first bytes": (lambda: b"\x1f\x8b" + bytes(range(256)), "is broken"),
    "a line of 100 MB": (lambda: DUMP.encode() + b"x" * 100 * MB, "line 11: it is longer than 1 MiB"),
    "a first line of 100 MB": (lambda: b"x" * 100 * MB, "it begins with 'xxx"),
    "colons in a word of a megabyte": (lambda: b"ESTAB 0 0 " + b"1:" * (MB // 2), "is no dump of sockets"),
    "a hundred thousand states": (lambda: b"ESTAB\n" * 100_000, "is no dump of sockets"),
    "blanks of 20 MB between two words": (
        lambda: b"ESTAB 0 0" + b" " * 20 * MB + b"10.0.0.1:5 10.9.9.9:443\n",
        "is no dump of sockets",
    ),
    "programs of a megabyte": (
        lambda: DUMP.encode() + (DUMP[:-1] + " users:((" + '"a",' * 250_000 + "\n").encode(),
        "",
    ),
    "a name for each of 200,000 addresses": (
        lambda: b"".join(b"ESTAB 0 0 host%d:5 10.9.9.9:443\n" % at for at in range(200_000)),
        "line 1: 'host0' is a name",
    ),
    "an address for each of 500,000 sockets": (
        lambda: b"".join(
            b"ESTAB 0 0 [2001::%x:1]:5 [2001::%x:2]:443\n" % (at % 9999, at // 9) for at in range(500_000)
        ),
        "",
    ),
    "a device for each of 200,000 sockets": (
        lambda: b"".join(b"ESTAB 0 0 10.0.0.1%%e%d:5 10.9.9.9:443\n" % at for at in range(200_000)),
        "",
    ),
    "blanks of a megabyte behind the name of a program": (
        lambda: b"tcp 0 0 10.0.0.1:5 10.9.9.9:443 ESTABLISHED 7/x" + b" " * MB + b"(\n",
        "",
    ),
    "a header of blank lines": (lambda: b"\n" * (MB - 20) + b"Netid\n", "is no dump of sockets"),
    "NUL bytes": (lambda: DUMP.encode() + bytes(MB), "line 11: a NUL byte"),
    "UTF-16": (lambda: DUMP.encode("utf-16"), "is UTF-16 text"),
    "a program": (lambda: Path("/bin/sh").read_bytes(), "a NUL byte"),
    "escapes of a terminal": (
        lambda: DUMP.encode() + b"ESTAB 0 0 \x1b]0;own\x07\x1b[2J\x9b31m:5 10.9.9.9:443\n",
        "line 11: ",
    ),
    "a command to a CI runner": (lambda: DUMP.encode() + b"::error::x\n", "line 11: "),
}
"""Dumps that are made to take much memory or time, or to write on a terminal; and the words that refuse them."""


TELLING = (
    "gzip of a gigabyte of line ends",
    "a line of 100 MB",
    "an address for each of 500,000 sockets",
    "escapes of a terminal",
    "a command to a CI runner",
)


@pytest.mark.parametrize("kind", TELLING)
def test_hostile_dump_takes_little(kind: str, tmp_path: Path) -> None:
    """It is refused in two lines, or shown, in little memory and time."""
    make, words = HOSTILE[kind]
    path = tmp_path / "dump"
    path.write_bytes(make())
    done = bounded("inspect", str(path))
    assert done.returncode == (ExitCode.INPUT if words else ExitCode.OK), done.stderr[-500:]
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == (2 if words else 0)
    assert len(done.stderr) < 1000
    assert not any(one in done.stderr + done.stdout for one in ("\x1b", "\x07", "\x9b", "\0", "::error"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in TELLING])
def test_no_hostile_dump_takes_much(kind: str, tmp_path: Path) -> None:
    """The same for every other kind of dump."""
    test_hostile_dump_takes_little(kind, tmp_path)


def test_endless_file_is_refused_by_its_beginning() -> None:
    """/dev/zero has no end, and no dump begins like it."""
    done = connbench("inspect", "/dev/zero")
    assert done.returncode == ExitCode.INPUT
    assert "NUL" in done.stderr


@pytest.mark.parametrize("path", ["/nowhere/dump", "/proc/self/mem", "/"])
def test_what_cannot_be_read_is_named(path: str) -> None:
    """A missing file, one that cannot be read, a directory."""
    done = in_process("inspect", path)
    assert done.returncode == ExitCode.INPUT
    assert f"{path} cannot be read: " in done.stderr
