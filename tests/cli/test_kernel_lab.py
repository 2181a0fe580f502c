"""The kernel lab's command, short of booting a kernel: its table and chart, and guests that come to nothing."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from connbench.model import StrategySpec
from connbench.report.machine import json_document
from made import PLAIN, result_of, round_of, samples_of
from support import wait_until

LAB = Path(__file__).parents[2] / "scripts" / "kernel-lab"
RANGE = StrategySpec("range")


def lab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the lab's command to its end."""
    return subprocess.run(
        [sys.executable, str(LAB), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def alive(group: int) -> list[int]:
    """The processes of a group that have not ended, whether or not anybody has asked how."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def add_result(folder: Path, series: str, kernel: str, odd_ns: int) -> None:
    """Write what a guest would have left: even ports at 10 µs, odd ones dearer by plain, and alike by range."""
    plain = samples_of([10_000, 10_000, odd_ns, odd_ns], port=[40000, 40002, 40001, 40003])
    even = samples_of([10_000] * 4, port=[40000, 40001, 40002, 40003])
    result = result_of({PLAIN: [round_of(plain)], RANGE: [round_of(even)]})
    result.environment["kernel"] = kernel
    (folder / series).mkdir(parents=True)
    (folder / series / "result.json.gz").write_bytes(gzip.compress(json_document(result).encode()))


def test_table_has_a_row_for_each_kernel_by_version(tmp_path: Path) -> None:
    """Kernels stand in the order of their versions, with the cliff as a ratio; the chart is a PNG."""
    add_result(tmp_path, "6.12", "6.12.9-amd64", 50_000)
    add_result(tmp_path, "6.1", "6.1.0-amd64", 80_000)
    ended = lab("table", str(tmp_path), "--chart", str(tmp_path / "chart.png"))
    assert ended.returncode == 0, ended.stderr
    _, first, second = ended.stdout.splitlines()
    assert first.startswith("6.1.0-amd64")
    assert "8.00 x" in first
    assert second.startswith("6.12.9-amd64")
    assert "5.00 x" in second
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_table_of_nothing_is_an_error(tmp_path: Path) -> None:
    """A folder without results is refused by its name."""
    ended = lab("table", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (8, "")
    assert str(tmp_path) in ended.stderr


@pytest.mark.parametrize("arguments", [("run", "--kernel", "six"), ("run", "--deterministic", "--kernel", "uml")])
def test_kernel_that_cannot_be_is_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """What is no series, and what cannot count instructions, is refused before anything is made."""
    ended = lab(*arguments, "-o", str(tmp_path / "out"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    None in map(shutil.which, ("busybox", "qemu-system-x86_64")), reason="no busybox-static and qemu-system-x86 here"
)
@pytest.mark.parametrize(
    ("body", "told"),
    [("echo Kernel panic; exit 1", "did not boot"), ("echo kernel-lab: up 1.0; sleep 1000 & wait", "hung within 2 s")],
)
def test_guest_that_comes_to_nothing_is_ended_and_told(body: str, told: str, tmp_path: Path) -> None:
    """A kernel that panics, and one that never ends, are reported with the end of their console; nothing is left."""
    kernel = tmp_path / "bin" / "linux.uml"
    kernel.parent.mkdir()
    kernel.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec echo 6.1.0\necho $$ > {tmp_path}/pid\n{body}\n')
    kernel.chmod(0o755)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "out" / "uml").mkdir(parents=True)
    (tmp_path / "out" / "uml" / "status").write_text("0\n")  # of an earlier run that went well
    ended = lab(
        *("run", "--kernel", "uml", "--timeout", "2", "--force", "-o", str(tmp_path / "out")),
        PATH=f"{kernel.parent}:{os.environ['PATH']}",
        TMPDIR=str(tmp_path / "temporary"),
    )
    assert ended.returncode == 6
    assert f"uml: the guest {told}" in ended.stderr
    assert f"  | {body.removeprefix('echo ').partition(';')[0]}" in ended.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())), "the end of the guest's processes")
