"""Several source addresses as users ask for them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.linux.address_family import has_ipv6
from connbench.linux.limits import machine_memory
from run_connbench import connbench

SMALL = ("run", "-q", "--port-range", "40000-40031", "--seed", "1")


def test_two_addresses_open_twice_as_many(tmp_path: Path) -> None:
    """Without -n every port of every address is used; the text has each by itself, the file each attempt's address."""
    path = tmp_path / "two.json"
    finished = connbench(*SMALL, "--strategy", "bind", "--strategy", "random", "--sources", "2", "-o", str(path))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    assert finished.stdout.count("127.9.9.1 and 1 more source -> 127.9.9.2:39999") == 2
    assert finished.stdout.count("connection attempts: 64 errored: 0 total: 64") == 2
    assert len([line for line in finished.stdout.splitlines() if line.startswith("127.9.9.2  32 ")]) == 2
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["plan"]["sources"] == ["127.9.9.1", "127.9.9.2"]
    assert found["strategies"][0]["rounds"][0]["samples"]["source"] == [0, 1] * 32
    picture = tmp_path / "two.png"
    drawn = connbench("plot", str(path), "--by-source", "-o", str(picture))
    assert (drawn.returncode, drawn.stderr) == (ExitCode.OK, "")
    assert picture.stat().st_size > 0


def test_one_address_is_filled_after_the_other() -> None:
    """--spread fill uses up the first address before it takes the next, through workers of few sockets each."""
    arguments = ("--strategy", "random", "--source", "127.9.9.4-127.9.9.5", "--spread", "fill", "--format", "csv")
    finished = connbench(*SMALL, *arguments, inside=("--nofile", "64"))
    assert finished.returncode == ExitCode.OK, finished.stderr
    rows = list(csv.DictReader(io.StringIO(finished.stdout)))
    assert [row["source"] for row in rows] == ["0"] * 32 + ["1"] * 32
    assert sorted(int(row["port"]) for row in rows) == sorted([*range(40000, 40032)] * 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--sources", "2"), "--sources 2: plain cannot choose its source"),
        (("--strategy", "bind", "--sources", "0"), "--sources 0 is not possible"),
        (("--strategy", "bind", "--sources", "2", "--source", "127.0.0.1"), "both set the source addresses"),
        (("--strategy", "bind", "--source", "127.9.9.9-127.9.9.1"), "is reversed"),
        (("--strategy", "bind", "--source", "192.0.2.1,127.0.0.1"), "192.0.2.1 is not an address of this host"),
    ],
)
def test_wrong_addresses_are_refused(arguments: tuple[str, ...], named: str) -> None:
    """In two lines, before anything is measured."""
    finished = connbench(*SMALL, *arguments)
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert named in finished.stderr
    assert len(finished.stderr.splitlines()) == 2


@pytest.mark.skipif(machine_memory() > 80e9, reason="ten million connections fit into this memory")
def test_more_connections_than_memory_are_refused_with_figures() -> None:
    """Ten million would take tens of gigabytes of kernel memory: said beforehand, with a number that fits."""
    finished = connbench("run", "--strategy", "range", "--sources", "200", "-n", "10000000")
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert re.search(r"10,000,000 connections need about 8\d\.\d GB, and \d+\.\d GB are free\n", finished.stderr)
    assert re.search(r"-n \d+ fits$", finished.stderr)


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is switched off")
def test_ipv6_runs_through_text_and_files(tmp_path: Path) -> None:
    """--family 6 has addresses of its own; the text has them in brackets, the file is read back."""
    path = tmp_path / "six.json.gz"
    arguments = ("--family", "6", "--strategy", "bind", "--strategy", "window", "--window", "8", "--sources", "2")
    finished = connbench(*SMALL, *arguments, "-o", str(path))
    assert (finished.returncode, finished.stderr) == (ExitCode.OK, "")
    assert "2001:db8::1 and 1 more source -> [2001:db8::2]:39999" in finished.stdout
    assert "connection attempts: 64 errored: 0 total: 64" in finished.stdout
    again = connbench("report", str(path))
    assert again.stdout == finished.stdout
