"""`connbench trace` where it cannot be: refusals; and bpftrace as a child, with programs that need no probe."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bpftrace_check import BPFTRACE, needs_bpf
from connbench.errors import EnvironmentFault, ExitCode, Interrupted, RunFault
from connbench.interrupts import ENDING_SIGNALS, Interrupts
from connbench.trace.bpftrace import running
from connbench.trace.program import Trace, find_tracer
from run_connbench import COMMAND, HANG_S, INSIDE, children, connbench, wait_until

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
COUNTING = """
BEGIN { printf("ready\\n"); }
interval:ms:$1 { @beats[cgroup, 7, comm] = count(); print(@beats); printf("tick\\n"); }
"""


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, or is refused as root")


def lacks(*paths: str) -> bool:
    """Whether this kernel has none of these."""
    return not any(map(os.path.exists, paths))


def running_now() -> set[int]:
    """Processes that have not ended, whether or not anybody has asked how."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text(errors="replace").rpartition(")")[2].split()[0] != "Z":
                found.add(int(path.parent.name))
    return found


def refused(finished: subprocess.CompletedProcess[str]) -> str:
    """Its two lines, after making sure that it is a refusal."""
    assert finished.returncode == ExitCode.ENVIRONMENT, finished.stderr
    assert finished.stdout == ""
    fault, way_out = finished.stderr.splitlines()
    assert (fault[:11], way_out[:5]) == ("connbench: ", "  -> ")
    return finished.stderr


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_ordinary_users_cannot_trace() -> None:
    """Exit code 4: who one is, and sudo."""
    folders = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
    exposed = [word for folder in folders for word in ("--expose", folder)]
    command = [*INSIDE, *exposed, "--", *AS_NOBODY, COMMAND, "trace", "parity"]
    told = refused(subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=HANG_S))
    assert "needs root, and this is user 65534" in told
    assert "sudo" in told


@needs_root
@pytest.mark.parametrize("trace", Trace)
def test_without_bpftrace(trace: str) -> None:
    """Exit code 4: what is not there, and how to get it."""
    told = refused(connbench("trace", trace, env=os.environ | {"PATH": "/nowhere"}))
    assert "bpftrace is not in PATH" in told
    assert "apt-get install bpftrace" in told


@needs_bpf
@pytest.mark.skipif(
    not lacks("/sys/bus/event_source/devices/kprobe", "/sys/kernel/tracing/events", "/sys/kernel/debug/tracing"),
    reason="this kernel has kprobes or tracefs",
)
@pytest.mark.parametrize("probes", [(), ("--probes", "kprobe"), ("--probes", "kfunc")])
def test_all_that_a_kernel_lacks_is_named(probes: tuple[str, ...]) -> None:
    """Exit code 4: neither kind of probe that was asked for, no tracefs; what is there is not complained of."""
    told = refused(connbench("trace", "latency", "--json", *probes))
    assert ("no kprobes" in told) == ("kfunc" not in probes)
    assert ("no kfunc probes" in told) == ("kprobe" not in probes)
    assert "tracefs is not mounted" in told
    assert ("no BTF" in told) == lacks("/sys/kernel/btf/vmlinux")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bpftrace") is None, reason="both are asked for first")
def test_a_proc_that_does_not_tell_the_functions() -> None:
    """As in a container whose /proc shows processes alone."""
    finished = connbench("trace", "latency", inside=("--proc", "subset=pid"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert finished.stderr.splitlines() == [
        "connbench: the kernel's functions cannot be read from /proc/kallsyms: No such file or directory",
        "  -> mount all of proc(5) on /proc",
    ]


@needs_bpf
def test_a_kernel_is_checked_under_its_root(tmp_path: Path) -> None:
    """Lockdown in its strict mode, missing BTF and missing functions stand in one refusal."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_text("0 t tcp_v4_connect\n0 T tcp_connect\n0 t tcp_v6_connect [ipv6]\n")
    for folder in ("sys/kernel/security", "sys/bus/event_source/devices/kprobe", "sys/kernel/tracing/events/sched"):
        (tmp_path / folder).mkdir(parents=True)
    lockdown = tmp_path / "sys/kernel/security/lockdown"
    lockdown.write_text("none integrity [confidentiality]\n")
    with pytest.raises(EnvironmentFault) as fault:
        find_tracer(Trace.OFFSETS, root=tmp_path)
    assert fault.value.message == (
        "this kernel cannot be traced here: lockdown is in confidentiality mode; "
        "it has no BTF (CONFIG_DEBUG_INFO_BTF); it has no function __inet_check_established"
    )
    lockdown.write_text("none [integrity] confidentiality\n")
    (tmp_path / "sys/kernel/btf").mkdir()
    (tmp_path / "sys/kernel/btf/vmlinux").touch()
    assert find_tracer(Trace.PARITY, root=tmp_path).functions == {"tcp_v4_connect", "tcp_connect", "tcp_v6_connect"}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("parity --interval 0", "--interval 0"),
        ("parity --duration nan", "--duration nan"),
        ("parity --interval 5000000", "give 100ms to 24h"),
        ("parity --duration 1e9", "give 100ms to 8784h"),
        ("parity --exporter here:80", "'here:80'"),
        ("parity --exporter 127.0.0.1", "'127.0.0.1'"),
        ("parity --exporter 127.0.0.1:65536", "65536"),
        ("parity --probes uprobe", "uprobe"),
        ("ports", "ports"),
        ("", "latency, parity or offsets"),
    ],
)
def test_wrong_usage_of_trace(asked: str, named: str) -> None:
    """Exit code 2, before the command checks anything; the message names the fault."""
    finished = connbench("trace", *asked.split())
    assert finished.returncode == ExitCode.USAGE
    assert named in finished.stderr
    assert finished.stderr.count("\n") == 2


@needs_bpf
def test_bpftrace_tells_all_as_it_ends() -> None:
    """Intervals come one by one, until a time; the maps of the end are read, and nothing is left running."""
    interrupts = Interrupts()
    with running(BPFTRACE, COUNTING, 20) as child:
        child.wait_until_ready(interrupts)
        while "beats" not in child.maps:
            assert child.wait_for_interval(interrupts, None)
        before = sum(child.maps["beats"].values())
        child.stop()
        # One key as a rule; another name of the interrupted process, which the key has, makes another.
        assert all(key.split(",")[1:2] == ["7"] for key in child.maps["beats"])
        assert sum(child.maps["beats"].values()) >= before
    assert child.pid not in running_now()


@needs_bpf
def test_bpftrace_that_cannot_start_is_reported() -> None:
    """Its own error is in ours."""
    text = COUNTING + "kprobe:no_such_function_here { @ = count(); }"
    with running(BPFTRACE, text, 20) as child, pytest.raises(EnvironmentFault) as fault:
        child.wait_until_ready(Interrupts())
    assert fault.value.message.startswith("bpftrace did not start: ")
    assert "RLIMIT_MEMLOCK" not in fault.value.message
    assert "no_such_function_here" in fault.value.message or "probe" in fault.value.message


def test_a_probe_that_is_left_out_is_no_trace(tmp_path: Path) -> None:
    """Newer versions of bpftrace (0.23 is played here) warn and go on: that would count nothing, and be believed."""
    player = tmp_path / "bpftrace"
    warning = "WARNING: could not attach probe kretprobe:tcp_v4_connect, skipping."
    ready = '{"type": "printf", "data": "ready\\n"}'
    player.write_text(f"#!/bin/sh\necho '{warning}' >&2\nprintf '%s\\n' '{ready}'\nexec sleep 100\n")
    player.chmod(0o755)
    with running(str(player), COUNTING, 20) as child, pytest.raises(EnvironmentFault) as fault:
        child.wait_until_ready(Interrupts())
    assert fault.value.message == f"bpftrace did not start: {warning}"


def test_the_last_words_of_bpftrace_are_reported_where_it_names_no_error(tmp_path: Path) -> None:
    """Some of its faults are bare lines; a warning is none, nor is a word on RLIMIT_MEMLOCK."""
    player = tmp_path / "bpftrace"
    said = (
        "one line",
        "the kernel would not have it",
        "WARNING: deprecated",
        "couldn't set RLIMIT_MEMLOCK for bpftrace",
    )
    player.write_text("#!/bin/sh\n" + "".join(f'echo "{line}" >&2\n' for line in said) + "exit 1\n")
    player.chmod(0o755)
    with running(str(player), COUNTING, 20) as child, pytest.raises(EnvironmentFault) as fault:
        child.wait_until_ready(Interrupts())
    assert fault.value.message == "bpftrace did not start: the kernel would not have it"


@needs_bpf
def test_bpftrace_that_is_killed_is_reported() -> None:
    """A trace does not go on in silence when its child is gone."""
    with running(BPFTRACE, COUNTING, 20) as child:
        child.wait_until_ready(Interrupts())
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(RunFault) as fault:
            wait_until(lambda: not child.wait_for_interval(Interrupts(), None), "the loss is noticed")
    assert "killed by SIGKILL" in fault.value.message


@needs_bpf
def test_bpftrace_that_falls_silent_is_reported() -> None:
    """One that lives and says nothing is as good as gone; a stopped process can be ended all the same."""
    with running(BPFTRACE, COUNTING, 20, late_s=0.2) as child:
        child.wait_until_ready(Interrupts())
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(RunFault) as fault:
            wait_until(lambda: not child.wait_for_interval(Interrupts(), None), "the silence is noticed")
    assert fault.value.message == "bpftrace has printed no counts for 0.22 s"
    assert child.pid not in running_now()


@needs_bpf
def test_a_time_ends_the_wait() -> None:
    """--duration need not wait for the interval's end either."""
    with running(BPFTRACE, COUNTING, 3_600_000) as child:
        child.wait_until_ready(Interrupts())
        assert not child.wait_for_interval(Interrupts(), time.monotonic())


@needs_bpf
def test_a_signal_is_noticed_between_intervals() -> None:
    """Ctrl-C need not wait for the interval's end."""
    interrupts = Interrupts()
    with running(BPFTRACE, COUNTING, 3_600_000) as child:
        child.wait_until_ready(interrupts)
        interrupts.install()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(Interrupted):
                child.wait_for_interval(interrupts, None)
        finally:
            for number in ENDING_SIGNALS:
                signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


@needs_bpf
def test_bpftrace_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Killed without a chance to tidy up, a trace leaves no probes behind: the kernel ends the child."""
    script = (
        "import sys\n"
        "from connbench.interrupts import Interrupts\n"
        "from connbench.trace.bpftrace import running\n"
        "with running(sys.argv[1], sys.argv[2], 1000) as child:\n"
        "    child.wait_until_ready(Interrupts())\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, BPFTRACE, COUNTING]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (pid,) = children(parent.pid)
        parent.kill()
    wait_until(lambda: pid not in running_now(), "bpftrace has ended")
