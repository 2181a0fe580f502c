"""The command with few resources: control groups, limits, and a /proc that does not show everything.

Each ends as it promises: it works, or it is refused in two lines with exit code 4 before anything is started.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from connbench.errors import ExitCode
from connbench.linux import cgroup_limits, limits
from fault_at_moment import BEFORE_THE_ENGINE, Run, at, end_of
from run_connbench import connbench

SMALL = ("--port-range", "40000-40999", "-n", "200", "--strategy", "bind")
GROUP = f"connbench-test-{os.getpid()}"
MB = 1_000_000

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and other users, need root")


def limited(controller: str, files: tuple[str, ...], value: int) -> Iterator[Path]:
    """A control group of the test's own, below the current one, with a limit."""
    parent = next(iter(cgroup_limits.folders(controller)), Path("/nowhere"))
    folder = parent / GROUP
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no {controller} control group can be made in {parent}: {error.strerror}")
    try:
        file = next((folder / name for name in files if (folder / name).exists()), None)
        if file is None:
            pytest.skip(f"{parent} does not hand on its {controller} controller")
        file.write_text(str(value), encoding="ascii")
        yield folder
    finally:
        for _ in range(1000):  # what ran in it may take a moment to be gone
            with suppress(OSError):
                folder.rmdir()
            if not folder.exists():
                break
            time.sleep(0.01)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A group with 160 MB of memory: too little for the talk's run, and enough for one of 10,000 connections."""
    yield from limited("memory", ("memory.max", "memory.limit_in_bytes"), 160 * MB)


@pytest.fixture
def few_processes() -> Iterator[Path]:
    """A group with eight processes."""
    yield from limited("pids", ("pids.max",), 8)


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """A group with all CPUs, from which a test takes some away."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip("needs two CPUs")
    parent = Path("/sys/fs/cgroup/cpuset")
    if not (parent / "cpuset.mems").exists():
        pytest.skip("no cpuset hierarchy of cgroup v1 here")
    for folder in limited("cpuset", ("cpuset.cpus",), usable[0]):
        for name in ("cpuset.cpus", "cpuset.mems"):
            (folder / name).write_text((parent / name).read_text(encoding="ascii"), encoding="ascii")
        yield folder


def refusal(run: Run, *says: str) -> None:
    """A run was refused: exit code 4, two lines, nothing printed, nothing left."""
    run.ended(ExitCode.ENVIRONMENT)
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 2, run.stderr
    for words in says:
        assert words in run.stderr


def test_a_group_with_too_little_memory_is_seen_beforehand(small_memory: Path, tmp_path: Path) -> None:
    """The run is refused with figures before the OOM killer acts; the number that it names fits the same group."""
    inside = ("--cgroup", str(small_memory))
    refused = end_of("run", "--strategy", "window", "-o", "r.json", folder=tmp_path, inside=inside)
    refusal(refused, "56,512 connections need about", "the control group leaves", str(small_memory))
    fits = int(refused.stderr.partition("ask for fewer: -n ")[2].split()[0])
    assert 1000 < fits < 20_000
    # A group's kernel memory is not all given back at once, so what fits may be a little less by now.
    arguments = ("run", "--strategy", "window", "-n", str(fits * 3 // 4), "-o", "r.json")
    done = end_of(*arguments, folder=tmp_path, inside=inside)
    done.ended(ExitCode.OK)
    assert len(done.kept("r.json").rounds) == 1
    told = connbench("doctor", "--format", "json", inside=inside)
    assert told.returncode == ExitCode.ENVIRONMENT
    checks = json.loads(told.stdout)["checks"]
    assert any("the control group leaves" in check["message"] for check in checks if check["code"] == "refused")


@pytest.mark.slow
def test_what_is_reserved_for_a_group_is_what_a_run_takes(small_memory: Path, tmp_path: Path) -> None:
    """A group's memory peaks below what the plan says that a run needs, with 40 workers and acceptors too."""
    peaks = (small_memory / name for name in ("memory.peak", "memory.max_usage_in_bytes"))
    peak = next((file for file in peaks if file.exists()), None)
    if peak is None:
        pytest.skip("this kernel does not tell a group's largest use of memory")
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (small_memory / name).exists():
            (small_memory / name).write_text(str(1000 * MB), encoding="ascii")
    arguments = ("run", "--port-range", "20000-29999", "--strategy", "bind", "-n", "8000", "--listener", "accept")
    inside = ("--cgroup", str(small_memory), "--nofile", "300")
    end_of(*arguments, folder=tmp_path, inside=inside).ended(ExitCode.OK)
    used = int(peak.read_text(encoding="ascii"))
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (small_memory / name).exists():
            (small_memory / name).write_text(str(160 * MB), encoding="ascii")
    refused = end_of(*arguments, folder=tmp_path, inside=inside)
    refusal(refused, "8,000 connections need about")
    assert used < int(refused.stderr.partition("need about ")[2].split()[0]) * MB


def test_a_group_with_few_processes_is_seen_beforehand(few_processes: Path, tmp_path: Path) -> None:
    """The group's pids.max is named by its file."""
    inside = ("--cgroup", str(few_processes), "--nofile", "64")
    refused = end_of("run", *SMALL, "-n", "990", folder=tmp_path, inside=inside)
    refusal(refused, "need 26 processes", f"{few_processes}/pids.max leaves 7")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result file."""
    folder = tmp_path_factory.mktemp("given")
    end_of("run", *SMALL, "-o", "given.json", folder=folder).ended(ExitCode.OK)
    return str(folder / "given.json")


RUN, REPORT, PLOT = ("run", *SMALL), ("report", "given.json"), ("plot", "given.json", "-o", "p.svg")
PAGE = ("report", "given.json", "--html", "p.html")


def slowly(*values: object) -> ParameterSet:
    """Leave a case to `make test-all`; the first cases of its kind always run."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("arguments", "megabytes"),
    [
        (RUN, 40),
        (RUN, 240),
        (RUN, 500),
        (PLOT, 160),
        *(slowly(command, size) for command in (RUN, REPORT, PLOT, PAGE) for size in range(30, 520, 30)),
    ],
)
def test_a_small_address_space(arguments: tuple[str, ...], megabytes: int, given: str, tmp_path: Path) -> None:
    """It works, or refuses in two lines: libraries that cannot be loaded would end it with a code of their own."""
    command = [given if word == "given.json" else word for word in arguments]
    done = end_of(*command, folder=tmp_path, inside=("--rlimit", f"AS={megabytes * MB}"))
    if megabytes >= 400:
        done.ended(ExitCode.OK)
    elif done.code != ExitCode.OK:
        refusal(done, "RLIMIT_AS leaves")


@pytest.mark.parametrize(
    ("limit", "says"), [(f"DATA={30 * MB}", "RLIMIT_DATA leaves"), ("FSIZE=1000", "RLIMIT_FSIZE is 1,000 bytes")]
)
def test_other_limits_of_memory(limit: str, says: str, tmp_path: Path) -> None:
    """Limits of private memory, and of file size, which the kernel applies to the samples' shared memory."""
    end_of(*RUN, folder=tmp_path, inside=("--rlimit", limit)).ended(ExitCode.ENVIRONMENT, says)


def test_a_large_run_in_a_small_address_space(tmp_path: Path) -> None:
    """The samples have to be mapped, too."""
    inside = ("--rlimit", f"AS={400 * MB}")
    arguments = ("run", "--strategy", "range", "--sources", "20", "-n", "800000")
    if limits.available_memory() < 10_000 * MB:
        pytest.skip("800,000 connections do not fit into this machine's memory, which is told first")
    refusal(end_of(*arguments, folder=tmp_path, inside=inside), "of address space, and RLIMIT_AS leaves a process")


def test_a_reproduction_is_asked_for_by_its_largest_round(tmp_path: Path) -> None:
    """One run of plain would fit; 70,000 connections and the samples of 15 rounds do not."""
    inside = ("--rlimit", f"AS={350 * MB}")
    refusal(
        end_of("reproduce", folder=tmp_path, inside=inside), "70,000 connections and the samples of 668,096 attempts"
    )


PROC = {
    "no /proc": ("--tmpfs", "/proc:mode=755"),
    "subset=pid": ("--proc", "subset=pid"),
    "no /proc/sys": ("--tmpfs", "/proc/sys:mode=755"),
}
MASKED = {
    "no /sys": ("--tmpfs", "/sys:mode=755"),
    **{path: ("--mask", f"/proc/{path}") for path in ("meminfo", "stat", "loadavg", "cpuinfo", "self/cgroup")},
    "all that sets no limit": tuple(
        word
        for path in (
            "meminfo",
            "stat",
            "loadavg",
            "self/cgroup",
            "sys/kernel/pid_max",
            "sys/kernel/threads-max",
            "sys/fs/file-nr",
        )
        for word in ("--mask", f"/proc/{path}")
    ),
}


@as_root
@pytest.mark.parametrize(
    ("hidden", "arguments"),
    [
        ("no /proc", RUN),
        ("subset=pid", RUN),
        ("subset=pid", ("sweep", *SMALL, "--window", "10,20", "--strategy", "window")),
        ("subset=pid", ("advise", "-n", "9")),
        slowly("no /proc/sys", RUN),
        slowly("no /proc", ("advise", "-n", "9")),
    ],
)
def test_nothing_is_measured_without_proc(hidden: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Without /proc/sys the range of ports is unknown: connbench refuses the run and names the file."""
    refusal(end_of(*arguments, folder=tmp_path, inside=PROC[hidden]), "ip_local_port_range cannot be read", "/proc")


@as_root
@pytest.mark.parametrize(
    ("hidden", "arguments"),
    [
        ("subset=pid", REPORT),
        *(
            slowly(hidden, arguments)
            for hidden in PROC
            for arguments in (
                *(REPORT, PLOT, PAGE, ("predict", "given.json"), ("strategies",)),
                ("advise", "-n", "900", "--port-range", "40000-40999"),
            )
        ),
    ],
)
def test_what_measures_nothing_works_without_proc(
    hidden: str, arguments: tuple[str, ...], given: str, tmp_path: Path
) -> None:
    """`report`, `plot` and `predict` work without /proc."""
    command = [given if word == "given.json" else word for word in arguments]
    end_of(*command, folder=tmp_path, inside=PROC[hidden]).ended(ExitCode.OK)


@as_root
@pytest.mark.parametrize("hidden", ["subset=pid", slowly("no /proc"), slowly("no /proc/sys")])
def test_the_doctor_without_proc(hidden: str, tmp_path: Path) -> None:
    """The doctor says why a run would be refused."""
    told = end_of("doctor", folder=tmp_path, inside=PROC[hidden])
    told.ended(ExitCode.ENVIRONMENT)
    assert "A full run here would be refused (exit code 4): " in told.stdout
    assert "ip_local_port_range cannot be read" in told.stdout.replace("\n", " ")


@as_root
@pytest.mark.parametrize("hidden", ["all that sets no limit", *map(slowly, MASKED)])
def test_what_is_not_vital_may_be_hidden(hidden: str, tmp_path: Path) -> None:
    """A container may hide files that a run can do without: the run and the doctor go on."""
    run = end_of(*RUN, "-o", "r.json", folder=tmp_path, inside=MASKED[hidden])
    run.ended(ExitCode.OK)
    assert len(run.kept("r.json").rounds) == 1
    end_of("doctor", folder=tmp_path, inside=MASKED[hidden]).ended(ExitCode.OK)


@as_root
def test_counters_that_are_hidden(tmp_path: Path) -> None:
    """Without the kernel's counters connbench cannot judge a run, and does not begin it."""
    inside = ("--mask", "/proc/self/net")
    run = end_of("run", "-n", "5", "--strategy", "random", folder=tmp_path, inside=inside)
    refusal(run, "the kernel's counters cannot be read: /proc/net/snmp: No such file", "mount the whole of /proc")


def test_a_sandbox_that_denies_affinity(tmp_path: Path) -> None:
    """A run goes on unpinned, with a warning; connbench refuses a CPU that was asked for; `none` asks for no CPU."""
    inside = ("--deny", "affinity")
    run = end_of("run", *SMALL, "--format", "json", "-o", "r.json", folder=tmp_path, inside=inside)
    run.ended(ExitCode.OK)
    [found] = [one for one in json.loads(run.stdout)["findings"] if one["code"] == "cpus-not-chosen"]
    assert found["severity"] == "warning"
    plan = run.kept("r.json").plan
    assert plan
    assert plan.cpus == ()
    last = str(max(os.sched_getaffinity(0)))
    asked = end_of("run", *SMALL, "--cpu", last, folder=tmp_path, inside=inside)
    refusal(asked, f"--cpu {last}: this process may not choose its CPUs (sched_setaffinity: Operation not permitted)")
    none = end_of("run", *SMALL, "--cpu", "none", folder=tmp_path, inside=inside)
    none.ended(ExitCode.OK)
    assert "scheduler" not in none.stderr


def test_a_cpu_that_goes_away(one_cpu: Path, tmp_path: Path) -> None:
    """The CPU is taken out of the group's cpuset after the plan is made: a fault with the CPU's number, and no bug."""
    cpu = max(os.sched_getaffinity(0))
    with at(
        BEFORE_THE_ENGINE, "run", *SMALL, "--cpu", str(cpu), folder=tmp_path, inside=("--cgroup", str(one_cpu))
    ) as run:
        (one_cpu / "cpuset.cpus").write_text(str(min(os.sched_getaffinity(0))), encoding="ascii")
    run.ended(ExitCode.FAULT, f"CPU {cpu} is no longer usable")


def test_one_usable_cpu(tmp_path: Path) -> None:
    """A process with one CPU measures there; another CPU of the machine is wrong usage."""
    usable = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, {usable[0]})
        end_of("run", *SMALL, folder=tmp_path).ended(ExitCode.OK)
        end_of("run", *SMALL, "--cpu", "4095", folder=tmp_path).ended(ExitCode.USAGE, f"usable: {usable[0]}; or none")
    finally:
        os.sched_setaffinity(0, usable)


@pytest.mark.parametrize("number", [25_000, slowly(15_000)])
def test_thousands_of_targets(number: int, tmp_path: Path) -> None:
    """Each has a listening socket, which every process inherits: refused where RLIMIT_NOFILE is less."""
    targets = [f"--target=127.0.{i // 250}.{i % 250 + 1}:80" for i in range(number)]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 16_000
    if hard < files:
        pytest.skip(f"a process may open {hard} files here")
    run = end_of("run", *SMALL, *targets, "--listener", "backlog", folder=tmp_path, inside=("--nofile", str(files)))
    if number < files:
        run.ended(ExitCode.OK)
    else:
        refusal(run, f"a process needs {number + 25:,} open files with {number:,} listening sockets")
