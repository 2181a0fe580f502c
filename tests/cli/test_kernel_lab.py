"""The kernel lab's command without a booted kernel: its table and chart, and guests that fail."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from connbench.model import StrategySpec
from connbench.report.json import json_document
from factories import PLAIN, result_of, round_of, samples_of
from lab_guests import REPOSITORY, lab, require_guest
from run_connbench import wait_until

RANGE = StrategySpec("range")


def alive(group: int) -> list[int]:
    """The processes of a group that have not ended, also those that no parent has waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def add_result(folder: Path, series: str, kernel: str, odd_ns: int, clock: str = "time") -> None:
    """Write what a guest would leave: even ports at 10 µs, odd ones slower with plain, and equal with range."""
    plain = samples_of([10_000, 10_000, odd_ns, odd_ns], port=[40000, 40002, 40001, 40003])
    even = samples_of([10_000] * 4, port=[40000, 40001, 40002, 40003])
    result = result_of({PLAIN: [round_of(plain)], RANGE: [round_of(even)]})
    result.environment |= {"kernel": kernel, "clock": clock}
    (folder / series).mkdir(parents=True)
    (folder / series / "result.json.gz").write_bytes(gzip.compress(json_document(result).encode()))


def test_table_has_a_row_for_each_kernel_by_version(tmp_path: Path) -> None:
    """Kernels stand in the order of their versions, with the cliff as a ratio; the chart is a PNG."""
    add_result(tmp_path, "6.12", "6.12.9-amd64", 50_000)
    add_result(tmp_path, "6.1", "6.1.0-amd64", 80_000)
    ended = lab("table", str(tmp_path), "--chart", str(tmp_path / "chart.png"))
    assert ended.returncode == 0, ended.stderr
    _, first, also, second, _ = ended.stdout.splitlines()
    assert first.split() == ["6.1.0-amd64", "plain", "10.0", "µs", "80.0", "µs", "8.00", "x", "2.48", "ns", "-"]
    assert also.split() == ["range", "10.0", "µs", "10.0", "µs", "1.00", "x", "-", "4.50", "x"]
    assert second.startswith("6.12.9-amd64")
    assert "5.00 x" in second
    assert ended.stderr == ""
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_table_has_no_cost_of_a_port_without_slow_connects(tmp_path: Path) -> None:
    """Connections that all had even ports walked no half: they show neither a cliff nor what a port costs."""
    result = result_of({PLAIN: [round_of(samples_of([10_000] * 4, port=[40000, 40002, 40004, 40006]))]})
    result.environment |= {"kernel": "6.12.9-amd64"}
    (tmp_path / "6.12").mkdir()
    (tmp_path / "6.12" / "result.json.gz").write_bytes(gzip.compress(json_document(result).encode()))
    _, row = lab("table", str(tmp_path)).stdout.splitlines()
    assert row.split() == ["6.12.9-amd64", "plain", "10.0", "µs", "-", "-", "-", "-"]


def test_table_tells_folders_and_clocks_apart(tmp_path: Path) -> None:
    """A kernel from elsewhere goes by its folder's name, and the table marks instructions beside times."""
    add_result(tmp_path, "patched", "6.12.9-amd64", 50_000, "instructions")
    add_result(tmp_path, "6.12", "6.12.9-amd64", 50_000)
    ended = lab("table", str(tmp_path))
    names = [line.partition("  ")[0] for line in ended.stdout.splitlines()]
    assert names == ["kernel", "6.12.9-amd64", "", "patched 6.12.9-amd64", ""]
    assert ended.stderr == (
        "kernel-lab: these count instructions and are not to be compared with the others: patched 6.12.9-amd64\n"
    )
    assert ended.returncode == 0


def test_own_kernel_is_known_by_its_image(tmp_path: Path) -> None:
    """The lab reads its version from the bzImage; it refuses other files, and two kernels of one name."""
    image, words = tmp_path / "bzImage", b"6.19.0-mine (me@here) #1"
    header = bytearray(0x400)
    header[0x202:0x206], header[0x20E:0x210] = b"HdrS", (0x100).to_bytes(2, "little")
    header[0x300 : 0x300 + len(words)] = words
    image.write_bytes(header)
    listed = lab("list", "--kernel", f"mine={image}")
    assert (listed.returncode, listed.stdout.split()) == (0, ["mine", "6.19.0-mine", str(image)])
    other = tmp_path / "text"
    other.write_text("no image")
    for arguments, told in (
        ((f"mine={other}",), "is no bzImage"),
        ((f"mine={tmp_path}/none",), "No such file"),
        ((f"mi/ne={image}",), "'mi/ne' is no name"),
        ((f"mine={image}", f"mine={image}x"), "No such file"),
        ((f"6.1={image}", "6.1"), "--kernel 6.1 is given to two kernels"),
    ):
        refused = lab("list", *(word for one in arguments for word in ("--kernel", one)))
        assert refused.returncode == 2
        assert told in refused.stderr


def test_table_of_nothing_is_an_error(tmp_path: Path) -> None:
    """The lab refuses a folder without results and names it."""
    ended = lab("table", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (8, "")
    assert str(tmp_path) in ended.stderr


@pytest.mark.parametrize("arguments", [("run", "--kernel", "six"), ("run", "--deterministic", "--kernel", "uml")])
def test_kernel_that_cannot_be_is_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """The lab refuses an unknown series, and a guest that cannot count instructions, before it makes anything."""
    ended = lab(*arguments, "-o", str(tmp_path / "out"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 2
    assert not (tmp_path / "out").exists()


needs_tools = pytest.mark.skipif(
    None in map(shutil.which, ("busybox", "qemu-system-x86_64")), reason="no busybox-static and qemu-system-x86 here"
)


def stand_in(path: Path, body: str) -> None:
    """A program that the lab takes for a kernel, or for QEMU."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec echo 6.1.0\n{body}\n')
    path.chmod(0o755)


@needs_tools
@pytest.mark.parametrize(
    ("body", "told"),
    [("echo Kernel panic; exit 1", "did not boot"), ("echo kernel-lab: up 1.0; sleep 1000 & wait", "hung within 2 s")],
)
def test_guest_that_fails_is_ended_and_reported(body: str, told: str, tmp_path: Path) -> None:
    """The lab reports a kernel that panics, and one that never ends, with the end of their console; nothing is left."""
    stand_in(tmp_path / "bin" / "linux.uml", f"echo $$ > {tmp_path}/pid\n{body}")
    (tmp_path / "temporary").mkdir()
    (tmp_path / "out" / "uml").mkdir(parents=True)
    (tmp_path / "out" / "uml" / "status").write_text("0\n")  # of an earlier run that went well
    ended = lab(
        *("run", "--kernel", "uml", "--timeout", "2", "--force", "-o", str(tmp_path / "out")),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
        TMPDIR=str(tmp_path / "temporary"),
    )
    assert ended.returncode == 6
    assert f"uml: the guest {told}" in ended.stderr
    assert f"  | {body.removeprefix('echo ').partition(';')[0]}" in ended.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())), "the end of the guest's processes")


GUEST_THAT_RUNS = """\
echo kernel-lab: up 1.0
mkdir left && echo 0 >left/status && echo 6.1.0 >left/release && tar -c -f results.tar -C left ."""


@needs_tools
@pytest.mark.parametrize("is_named", [pytest.param(False, marks=pytest.mark.slow), True])
def test_kernel_that_this_cpu_cannot_boot_is_left_out_unless_it_was_named(is_named: bool, tmp_path: Path) -> None:
    """Among all kernels the lab leaves user-mode-linux out, with a line and exit code 0; asked for, it is a fault."""
    stand_in(tmp_path / "bin" / "linux.uml", "echo ptrace set fp regs failed, errno = 14; exit 1")
    stand_in(tmp_path / "bin" / "qemu-system-x86_64", GUEST_THAT_RUNS)
    for series in ("5.10", "6.1", "6.12", "6.18", "7"):
        (tmp_path / "connbench-kernels" / series).mkdir(parents=True)
        (tmp_path / "connbench-kernels" / series / "version").write_text(f"{series}.1\n")
    ended = lab(
        *("run", "-o", str(tmp_path / "out"), *(("--kernel", "uml") if is_named else ())),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
        XDG_CACHE_HOME=str(tmp_path),
    )
    reason = "kernel-lab: uml: user-mode-linux 6.1.0 cannot restore this CPU's floating-point state"
    if is_named:
        assert ended.returncode == 6
        assert ended.stderr.splitlines()[-2:] == [reason, "  -> use --kernel 6.1: QEMU boots it on any CPU"]
    else:
        assert ended.returncode == 0, ended.stderr
        assert [line for line in ended.stderr.splitlines() if "user-mode" in line] == [f"{reason}; left out"]
        assert ended.stderr.count("done in") == 5


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "/run"])  # noqa: S108  # where a guest once had a file system of its own
def test_checkout_may_lie_anywhere(place: str) -> None:
    """A guest finds a checkout in a folder for temporary files, with a space in its path, through a link."""
    require_guest("6.1")
    with tempfile.TemporaryDirectory(prefix="connbench lab ", dir=place) as folder:
        checkout = Path(folder, "a checkout")
        checkout.mkdir()
        for name in ("src", "tests", "scripts"):
            shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", checkout)
        link = Path(folder, "link")
        link.symlink_to(checkout.name)
        rule = "tests/netns/test_port_search.py::test_one_parity_is_used_up_before_the_other"
        ended = lab(
            *("test", "--kernel", "6.1", "--", "-q", rule),
            command=link / "scripts" / "kernel-lab",
            timeout=200,
            TMPDIR=folder,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
