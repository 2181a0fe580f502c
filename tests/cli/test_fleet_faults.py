"""What goes wrong with a fleet: each fault is caused for real on one host, and `fleet run` ends as it promises.

The message names host and fault in two lines, the exit code is the documented one, what the other hosts measured is
saved, and nothing is left on any host.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.input_file import read_any
from fleet_hosts import Controller, Hosts, fleet_of, needs_ssh, why_no_ssh
from run_connbench import children, wait_until

WAYS = {"netns": ("--via", "netns"), "ssh": ("--python", sys.executable)}
NETNS = WAYS["netns"]
SSH = pytest.param("ssh", marks=needs_ssh)
SMALL = ("-n", "50", "--strategy", "range")
PACED = ("-n", "20", "--strategy", "range", "--churn", "100", "--churn-rate", "50")
"""A fill that takes no time to speak of, and a churn of two seconds."""
LASTING = ("-n", "20", "--strategy", "range", "--churn", "1000000", "--churn-rate", "50")
ALL = "c[1-3]"
GOOD = {ExitCode.OK, ExitCode.UNSOUND}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three clients, which sshd serves if it can, and a server that accepts at port 8080."""
    with fleet_of(tmp_path_factory.mktemp("hosts"), ssh=not why_no_ssh()) as made, made.serving():
        yield made


@pytest.fixture(autouse=True)
def _nothing_left_on_any_host(hosts: Hosts) -> Iterator[None]:
    yield
    (hosts.folder / "r.json").unlink(missing_ok=True)
    hosts.until_nothing_is_left()


def to_server(hosts: Hosts) -> tuple[str, ...]:
    """The options of a run that connects from the host's own namespace to the server."""
    return ("--target", f"{hosts.target}:8080", "--allow-remote", "--isolate", "never")


def python_on(hosts: Hosts, **scripts: str) -> tuple[str, str]:
    """The option --python, for a Python that is this one, but does first what a shell script says on some hosts."""
    file = hosts.folder / "python"
    ours = "".join(f"if [ -e /sys/class/net/{host} ]; then\n{script}\nfi\n" for host, script in scripts.items())
    file.write_text(f'#!/bin/sh\n{ours}exec {sys.executable} "$@"\n', encoding="utf-8")
    file.chmod(0o755)
    return ("--python", str(file))


def saved(hosts: Hosts) -> dict[str, HostRecord]:
    """The hosts of the fleet that was saved, by name."""
    fleet = read_any(hosts.folder / "r.json")
    assert isinstance(fleet, Fleet)
    return {host.name: host for host in fleet.hosts}


def is_complete(host: HostRecord) -> bool:
    """Whether a host measured all that it was to measure."""
    return host.fault is None and host.result is not None and not host.result.is_partial


def connections(hosts: Hosts, host: str) -> int:
    """How many connections to the server are open on a host."""
    for pid in hosts.processes(host):
        try:
            lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        return sum(line.split()[2].endswith(":1F90") and line.split()[3] == "01" for line in lines)
    return 0


def until_measuring(hosts: Hosts, run: Controller, *names: str) -> None:
    """Wait until these hosts have opened connections, of a run that lasts."""

    def measure() -> bool:
        return all(connections(hosts, name) >= 20 for name in names)

    wait_until(lambda: measure() or run.process.poll() is not None, f"{names} measure")
    assert run.process.poll() is None, run.ended()


def told(stderr: str, host: str) -> list[str]:
    """The lines about a host, and the advice that follows."""
    lines = stderr.splitlines()
    return [line for place, line in enumerate(lines) if f": {host}: " in (line if line[0] != " " else lines[place - 1])]


def test_a_killed_agent_and_a_killed_engine(hosts: Hosts) -> None:
    """One part is lost, one is partial; the third host goes on through the next barrier, and all is saved."""
    options = ("--together", "-q", "-o", "r.json", "--", *to_server(hosts), *PACED, "--rounds", "2")
    with hosts.connbench_started("fleet", "run", "-w", ALL, *NETNS, *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        [agent], [other] = hosts.agents("c2"), hosts.agents("c3")
        [engine] = children(other)
        os.kill(agent, signal.SIGKILL)
        os.kill(engine, signal.SIGKILL)
        finished = run.ended()
    assert finished.returncode == ExitCode.FAULT
    assert told(finished.stderr, "c2")[0] == "connbench: c2: its agent was killed by SIGKILL"
    assert told(finished.stderr, "c3")[0] == "connbench: c3: the engine process was killed by SIGKILL"
    assert len(finished.stderr.splitlines()) == 4
    found = saved(hosts)
    assert is_complete(found["c1"])
    assert found["c2"].result is None
    assert found["c3"].result is not None
    assert found["c3"].result.is_partial


def test_a_link_that_is_cut(hosts: Hosts) -> None:
    """The connections of that host time out: what it measured until then is saved as partial."""
    options = ("--together", "-q", "-o", "r.json", "--", *to_server(hosts), *PACED, "--timeout", "0.2")
    with hosts.connbench_started("fleet", "run", "-w", ALL, *NETNS, *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        hosts.cut("c2")
        finished = run.ended()
        hosts.mend("c2")
    assert finished.returncode == ExitCode.FAULT
    assert "c2: 5 connect() in a row took longer than 0.2 s" in finished.stderr
    found = saved(hosts)
    assert is_complete(found["c1"])
    assert is_complete(found["c3"])
    assert found["c2"].result is not None
    assert found["c2"].result.is_partial
    assert len(found["c2"].result.strategies[0].rounds[0].samples) == 20


@needs_ssh
@pytest.mark.slow  # the agent takes 30 s until it gives its controller up
def test_a_link_to_a_host_that_is_cut(hosts: Hosts) -> None:
    """Over ssh it takes the controller's words, too: the host is given up, and its agent ends by itself."""
    options = ("--timeout", "5", "-q", "-o", "r.json", "--", *to_server(hosts), *LASTING, "--timeout", "100")
    with hosts.connbench_started("fleet", "run", "-w", ALL, *WAYS["ssh"], *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        hosts.cut("c2")
        wait_until(lambda: "c2" not in _reached(hosts), "ssh to the host is given up")
        run.press_ctrl_c()
        finished = run.ended()
        wait_until(lambda: not hosts.agents("c2"), "the agent has ended")
        hosts.mend("c2")
    assert finished.returncode in {ExitCode.FAULT, ExitCode.INTERRUPTED}
    assert "c2: it has said nothing for 5 s" in finished.stderr
    assert {name: host.result is not None for name, host in saved(hosts).items()} == {
        "c1": True,
        "c2": False,
        "c3": True,
    }


def _reached(hosts: Hosts) -> list[str]:
    """The hosts to which the machine has an ssh."""
    return [word for line in hosts.processes("").values() if line.startswith("ssh ") for word in line.split()]


CLOCK = """
import time
AHEAD_NS = 3_000_000_000
read_ns, gettime_ns = time.time_ns, time.clock_gettime_ns
time.time_ns = lambda: read_ns() + AHEAD_NS
time.time = lambda: time.time_ns() / 1e9
time.clock_gettime_ns = lambda clock: gettime_ns(clock) + AHEAD_NS * (clock == time.CLOCK_REALTIME)
time.clock_gettime = lambda clock: time.clock_gettime_ns(clock) / 1e9
"""
"""A sitecustomize.py: Python's wall clock is three seconds ahead, in the agent and all that it starts."""


def test_a_clock_that_is_three_seconds_ahead(hosts: Hosts) -> None:
    """The offset is found, and the host begins with the others by the clock that they have in common."""
    (hosts.folder / "ahead").mkdir()
    (hosts.folder / "ahead" / "sitecustomize.py").write_text(CLOCK, encoding="ascii")
    ahead = python_on(hosts, c2=f"export PYTHONPATH={hosts.folder}/ahead")
    options = ("--together", "-o", "r.json", "--", *to_server(hosts), *SMALL, "--rounds", "3")
    finished = hosts.connbench("fleet", "run", "-w", ALL, *NETNS, *ahead, *options)
    assert finished.returncode in GOOD, finished.stderr
    found = saved(hosts)
    starts: dict[str, list[float]] = {}
    for name, host in found.items():
        assert host.result is not None
        assert host.offset_us is not None
        assert host.error_us is not None
        assert abs(host.offset_us - (3_000_000 if name == "c2" else 0)) <= host.error_us
        rounds = host.result.strategies[0].rounds
        starts[name] = [one.report.epoch_us - host.offset_us for one in rounds if one.report.epoch_us is not None]
    # Each of the rounds begins after the one before on all hosts, by the clocks as corrected.
    for earlier, later in zip(range(2), range(1, 3), strict=True):
        assert max(one[earlier] for one in starts.values()) < min(one[later] for one in starts.values())


def test_a_host_that_hangs_before_it_is_ready(hosts: Hosts) -> None:
    """It stops all: the others are ready, and measure nothing."""
    stopped = python_on(hosts, c2="kill -STOP $$")
    options = ("--timeout", "4", "-q", "-o", "r.json", "--", *SMALL)
    finished = hosts.connbench("fleet", "run", "-w", ALL, *NETNS, *stopped, *options)
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert len(finished.stderr.splitlines()) == 2
    assert "c2: it has not answered within 4 s" in finished.stderr
    assert not (hosts.folder / "r.json").exists()


@pytest.mark.parametrize("way", [pytest.param("netns", marks=pytest.mark.slow), SSH])
def test_a_host_that_hangs_in_the_middle(hosts: Hosts, way: str) -> None:
    """It is given up and killed; the others, which wait for it at the next barrier, go on."""
    options = ("--together", "--timeout", "4", "-q", "-o", "r.json", "--", *to_server(hosts), *PACED, "--rounds", "2")
    with hosts.connbench_started("fleet", "run", "-w", ALL, *WAYS[way], *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        [agent] = hosts.agents("c2")
        os.kill(agent, signal.SIGSTOP)
        finished = run.ended()
    assert finished.returncode == ExitCode.FAULT, finished.stderr
    assert finished.stderr.splitlines()[0] == "connbench: c2: it has said nothing for 4 s"
    found = saved(hosts)
    assert is_complete(found["c1"])
    assert is_complete(found["c3"])
    assert found["c2"].result is None


@pytest.mark.parametrize("way", ["netns", SSH])
def test_a_killed_controller(hosts: Hosts, way: str) -> None:
    """Every agent ends by itself, with its engine and its connections."""
    options = ("-q", "--", *to_server(hosts), *LASTING)
    with hosts.connbench_started("fleet", "run", "-w", ALL, *WAYS[way], *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        run.kill()
        wait_until(lambda: not hosts.agents(), "all agents have ended")
        hosts.until_nothing_is_left()


@pytest.mark.parametrize(
    ("way", "together", "number"),
    [
        ("netns", (), signal.SIGINT),
        ("netns", ("--together",), signal.SIGHUP),
        pytest.param("ssh", (), signal.SIGTERM, marks=needs_ssh),
        pytest.param("ssh", ("--together",), signal.SIGINT, marks=needs_ssh),
    ],
)
def test_a_signal(hosts: Hosts, way: str, together: tuple[str, ...], number: signal.Signals) -> None:
    """Ctrl-C and the like: what was measured on each host is fetched and saved."""
    options = (*together, "-q", "-o", "r.json", "--", *to_server(hosts), *LASTING)
    with hosts.connbench_started("fleet", "run", "-w", ALL, *WAYS[way], *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        if number == signal.SIGINT:
            run.press_ctrl_c()
        else:
            run.send(number)
        finished = run.ended()
    assert finished.returncode == 128 + number, finished.stderr
    assert finished.stderr == f"connbench: stopped by {number.name}\n"
    for host in saved(hosts).values():
        assert host.result is not None
        assert host.result.is_partial
        assert len(host.result.strategies[0].rounds[0].samples) == 20


def test_ctrl_c_twice(hosts: Hosts) -> None:
    """The second one waits for nothing: not for an agent that is stopped either."""
    options = ("-q", "-o", "r.json", "--", *to_server(hosts), *LASTING)
    with hosts.connbench_started("fleet", "run", "-w", ALL, *NETNS, *options) as run:
        until_measuring(hosts, run, "c1", "c2", "c3")
        [agent] = hosts.agents("c2")
        os.kill(agent, signal.SIGSTOP)
        run.press_ctrl_c()
        wait_until(lambda: not hosts.agents("c1") and not hosts.agents("c3"), "the others have ended")
        assert run.process.poll() is None
        run.press_ctrl_c()
        finished = run.ended()
    assert finished.returncode == ExitCode.INTERRUPTED, finished.stderr
    found = saved(hosts)
    assert found["c2"].result is None
    assert found["c1"].result is not None


@needs_ssh
def test_a_host_that_ssh_does_not_reach(hosts: Hosts) -> None:
    """The server runs no sshd: what ssh says is the fault."""
    finished = hosts.connbench("fleet", "run", "-w", "c1,server", *WAYS["ssh"], "-q", "--", *SMALL)
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert finished.stderr.splitlines() == [
        "connbench: server: ssh: connect to host server port 22: Connection refused",
        "  -> see that sshd runs there, and at which port: `ssh server`",
    ]


@needs_ssh
def test_hosts_that_give_no_access(hosts: Hosts) -> None:
    """BatchMode: nobody is asked for a password or about a host key. What hosts have in common is said once."""
    known = hosts.folder / "home" / ".ssh" / "known_hosts"
    key = known.read_text(encoding="ascii")
    known.write_text("", encoding="ascii")
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", *WAYS["ssh"], "-q", "--", *SMALL)
    known.write_text(key, encoding="ascii")
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert finished.stderr.splitlines() == [
        "connbench: c1 and c2: Host key verification failed.",
        "  -> log in once by hand, `ssh c1`, and compare the key",
    ]


@needs_ssh
def test_a_host_that_has_a_folder_for_a_result(hosts: Hosts) -> None:
    """A copy fetches no folder, which may hold more than this machine has room for."""
    folder = hosts.folder / "much"
    folder.mkdir()
    (folder / "file").write_bytes(b"much")
    lies = f"say('done', descriptor=os.open('{folder}', os.O_RDONLY), size=2**30, fault=None); hear('end')"
    hostile(hosts, [f"until_go()\n{lies}"])
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", "--python", str(hosts.folder / "python"), "--", *SMALL)
    assert finished.returncode == ExitCode.FAULT
    assert "c2: its result was not copied: scp: " in finished.stderr


@needs_ssh
def test_a_host_without_python(hosts: Hosts) -> None:
    """The way out names --push."""
    finished = hosts.connbench("fleet", "run", "-w", "c1", "--python", "/nowhere/python", "-q", "--", *SMALL)
    assert (finished.returncode, finished.stdout) == (ExitCode.ENVIRONMENT, "")
    assert len(finished.stderr.splitlines()) == 2
    assert "c1: it has no connbench" in finished.stderr
    assert "--push" in finished.stderr


def test_hosts_without_room(hosts: Hosts) -> None:
    """An agent writes no file, so one without a folder to write to measures; one that gets no memory is lost alone.

    What the shell of a host prints before its agent begins does not matter either.
    """
    read_only = "for place in / /tmp /run; do mount -o remount,bind,ro $place || exit 1; done"
    read_only = f"echo welcome; echo mind the gap >&2; {read_only}"
    short = python_on(hosts, c2=read_only, c3="ulimit -f 2")
    finished = hosts.connbench("fleet", "run", "-w", ALL, *NETNS, *short, "-q", "-o", "r.json", "--", *SMALL)
    assert finished.returncode in {ExitCode.ENVIRONMENT, ExitCode.FAULT}, finished.stderr
    assert len(finished.stderr.splitlines()) == 2
    assert finished.stderr.startswith("connbench: c3: ")
    found = saved(hosts)
    assert [name for name, host in found.items() if is_complete(host)] == ["c1", "c2"]
    assert found["c3"].fault is not None


def test_no_room_here(hosts: Hosts) -> None:
    """Where the folder for temporary files is full here, it says which result was lost, and why."""
    small = hosts.folder / "small"
    small.mkdir()
    assert hosts.run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)).returncode == 0
    options = ("-q", "-o", "r.json", "--", "-n", "2000", "--strategy", "plain")
    finished = hosts.connbench("fleet", "run", "-w", "c[1-2]", *NETNS, *options, TMPDIR=str(small))
    assert hosts.run("umount", str(small)).returncode == 0
    assert finished.returncode == ExitCode.FAULT, finished.stderr
    assert "its result was not copied" in finished.stderr
    assert "No space left on device" in finished.stderr


@pytest.mark.slow  # 64 processes of Python on the cores of the machine
def test_32_hosts_at_once(tmp_path: Path) -> None:
    """All of them measure at the same time, and end."""
    with fleet_of(tmp_path, clients=32) as many, many.serving():
        options = ("--together", "--timeout", "300", "-q", "-o", "r.json", "--", *to_server(many), *SMALL)
        finished = many.connbench("fleet", "run", "-w", "c[1-32]", *NETNS, *options, "--rounds", "2")
        assert finished.returncode in GOOD, finished.stderr
        found = saved(many)
        assert len(found) == 32
        assert all(is_complete(host) for host in found.values())
        assert many.left() == []


AGENT = """
import gzip, json, os, sys, time
said = {"hello": {"protocol": 1, "connbench": "1.0.0", "python": "3", "kernel": "6", "hostname": "h"}}
said["hello"]["pid"] = os.getpid()
said["ready"] = {"turns": 1, "strategies": ["range"], "attempts": 50, "warnings": []}
RED = {"message": "\\x1b[31mred\\n$(reboot)", "hint": "`reboot`", "exit_code": 4}
def say(event, **fields):
    print(json.dumps({"event": event} | said.get(event, {}) | fields), flush=True)
def hear(kind):
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "ping":
            say("pong", number=order["number"], now_ns=time.time_ns())
        if order["do"] == kind:
            return order
    sys.exit(1)
def until_go():
    say("hello")
    hear("plan")
    say("ready")
    hear("go")
def done(data, **fields):
    descriptor = os.memfd_create("r")
    os.write(descriptor, data)
    say("done", **({"descriptor": descriptor, "size": len(data), "fault": None} | fields))
    hear("end")
"""
"""What an agent says, for agents that then say something else."""

BEFORE: dict[str, tuple[str, str]] = {
    "another protocol": ("say('hello', protocol=2)", "whose agent speaks protocol 2"),
    "an older version": ("sys.exit(\"connbench: there is no command 'agent'\")", "is too old"),
    "garbage": ("say('hello'); print('x' * 100); sys.stdin.read()", "sent what is no message"),
    "a long release": ("say('hello', kernel='6' * 65); sys.stdin.read()", "length <= 64"),
    "a long line": ("say('hello'); print('x' * 100_000); sys.stdin.read()", "sent a line of 100,000 bytes"),
    "a line without an end": ("say('hello'); print('x' * 10**8, end=''); sys.stdin.read()", "65,536"),
    "a shell that never stops": ("[print('welcome') for _ in range(10**6)]", "its shell prints no end of lines"),
    "no end of stderr": (
        "say('hello'); [print('x' * 1000, file=sys.stderr) for _ in range(10**5)]; sys.stdin.read()",
        "it sent more than 64 KiB",
    ),
    "a result of nothing": ("say('hello'); hear('plan'); say('ready'); done(b'{}')", "'done' while it was ready"),
    "the wrong order": ("say('ready'); sys.stdin.read()", "'ready' while it was connecting"),
    "a deep document": ("say('hello'); print('[' * 60_000); sys.stdin.read()", "sent what is no message"),
    "escapes": (
        "say('hello', hostname='\\x1b[2J'); hear('plan'); say('failed', fault=RED)",
        "[31mred",
    ),
    "an end": ("sys.exit(3)", "no agent began there"),
}
"""What the agent of a host does before it is ready, and what the message says."""

LATER: dict[str, tuple[str, str]] = {
    "garbage": ("print('no message'); sys.stdin.read()", "sent what is no message"),
    "no end of progress": (
        "[say('progress', turn=1, label='\\x1b[2J', done=1, attempts=2, mean_ns=1.0) for _ in range(10**4)]; done(b'')",
        "its result",
    ),
    "no result": ("done(b'{}')", "its result"),
    "half a result": ("done(b'{}', size=1000)", "its result was not copied"),
    "more than it said": ("done(bytes(10**7), size=100)", "its result was not copied"),
    "a size without a limit": ("done(b'{}', size=2**52)", "its result has"),
    "another file": ("done(b'{}', descriptor=2**40)", "its result was not copied"),
    "a folder": (
        "say('done', descriptor=os.open('/', os.O_RDONLY), size=2**30, fault=None); hear('end')",
        "its result was not copied",
    ),
    "a profile": ("done(open('profile.json', 'rb').read())", "its result is a profile"),
    "a bomb": ("done(gzip.compress(b' ' * 10**8))", "its result"),
    "an end": ("sys.exit(0)", "its agent ended"),
}
"""What it does once it was told to begin."""


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Hosts]:
    """A host for each agent of `BEFORE` or of `LATER`, and one more."""
    with fleet_of(tmp_path, clients=1 + max(len(BEFORE), len(LATER))) as made:
        yield made
        made.until_nothing_is_left()


def hostile(hosts: Hosts, agents: list[str]) -> tuple[str, str]:
    """The option --python, with each of these agents on a host, from c2 on."""
    scripts = {}
    for name, agent in zip(hosts.clients[1:], agents, strict=False):
        file = hosts.folder / f"{name}.py"
        file.write_text(f"{AGENT}\n{agent}\n", encoding="utf-8")
        scripts[name] = f"exec {sys.executable} {file}"
    return python_on(hosts, **scripts)


def test_agents_that_are_none(many: Hosts) -> None:
    """None of them begins; what they said is printed as text, and never run. The others go on if those may be missing.

    All are tried at once.
    """
    agents, words = zip(*BEFORE.values(), strict=True)
    command = ("fleet", "run", *NETNS, *hostile(many, list(agents)), "-q", "-o", "r.json")
    last = f"c[1-{1 + len(agents)}]"
    finished = many.connbench(*command, "-w", last, "--allow-missing", str(len(agents)), "--", *SMALL)
    assert finished.returncode in GOOD, finished.stderr
    assert "\x1b" not in finished.stdout + finished.stderr
    found = saved(many)
    assert is_complete(found.pop("c1"))
    for said, (what, host) in zip(words, zip(BEFORE, found.values(), strict=True), strict=True):
        assert (host.left_out, host.result) == (True, None), what
        assert host.fault is not None
        assert said in host.fault.message, what
    many.until_nothing_is_left()
    (many.folder / "r.json").unlink()
    stopped = many.connbench(*command, "-w", "c[1-2]", "--", *SMALL)
    assert (stopped.returncode, stopped.stdout) == (ExitCode.ENVIRONMENT, "")
    assert stopped.stderr.startswith("connbench: c2: ")
    assert BEFORE["another protocol"][1] in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 2
    assert not (many.folder / "r.json").exists()


def test_hosts_that_would_measure_different_things(many: Hosts) -> None:
    """Together they would wait for each other without end: they do not begin."""
    other = "say('hello'); hear('plan'); say('ready', turns=2, strategies=['range', 'bind']); hear('end')"
    command = ("fleet", "run", "-w", "c[1-2]", *NETNS, *hostile(many, [other]), "--together", "-q", "--", *SMALL)
    finished = many.connbench(*command)
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    assert "c1 and c2 would not measure the same strategies" in finished.stderr


SETS_UP = """
say('hello'); hear('plan'); say('ready')
while not os.path.exists('set-up'): time.sleep(0.01)
{end}
"""
"""An agent that fails once all are ready, before the first turn of hosts that begin together."""


@pytest.mark.parametrize("end", ["sys.exit(3)", "say('done', descriptor=None, size=0, fault=RED); hear('end')"])
def test_a_host_that_fails_before_the_first_turn_of_all(hosts: Hosts, end: str) -> None:
    """Nothing is measured, unless it may be missing."""
    words = ("fleet", "run", "-w", ALL, *NETNS, *hostile(hosts, [SETS_UP.format(end=end)]), "--together")
    for allowed, codes in (("0", {ExitCode.ENVIRONMENT}), ("1", GOOD)):
        options = ("--allow-missing", allowed, "-o", "r.json", "--", *SMALL)
        with hosts.connbench_started(*words, *options) as run:
            assert run.process.stderr
            ready = 0
            while ready < len(hosts.clients):
                line = run.process.stderr.readline()
                assert line, run.ended()
                ready += ": ready, " in line
            (hosts.folder / "set-up").touch()
            finished = run.ended()
        (hosts.folder / "set-up").unlink()
        assert finished.returncode in codes, finished.stderr
        assert (hosts.folder / "r.json").exists() == (allowed == "1")
    assert [name for name, host in saved(hosts).items() if host.left_out] == ["c2"]


def test_agents_that_lie(many: Hosts) -> None:
    """What they say of a result is checked, and it is read as a file from anybody is; what the others have is saved."""
    agents, words = zip(*LATER.values(), strict=True)
    lying = hostile(many, [f"until_go()\n{agent}" for agent in agents])
    profile = ("profile", "--strategy", "range", "--at", "10%", "-q", "-o", "profile.json")
    assert many.connbench(*profile).returncode in GOOD
    last = f"c[1-{1 + len(agents)}]"
    finished = many.connbench("fleet", "run", "-w", last, *NETNS, *lying, "-q", "-o", "r.json", "--", *SMALL)
    assert finished.returncode == ExitCode.FAULT, finished.stderr
    assert "\x1b" not in finished.stdout + finished.stderr
    found = saved(many)
    assert is_complete(found.pop("c1"))
    for said, (what, host) in zip(words, zip(LATER, found.values(), strict=True), strict=True):
        assert (host.left_out, host.result) == (False, None), what
        assert host.fault is not None
        assert said in host.fault.message, what
    assert len(finished.stderr.splitlines()) <= 2 * len(agents)
