"""`connbench inspect --watch` and `--exporter`, in a stand-in for the host where a test opens connections."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connbench.errors import ExitCode
from run_connbench import COMMAND, HANG_S, INSIDE, in_process, wait_until
from server_host import heard, started

PORTS = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40099")
PROGRAM = """
import socket, struct, sys
listeners = [socket.create_server((f"127.0.0.{host}", 39999), backlog=200) for host in (2, 3)]
held = {2: [], 3: []}
print("ready", flush=True)
for words in sys.stdin:
    host, number = map(int, words.split())
    for _ in range(number):
        held[host].append(socket.create_connection((f"127.0.0.{host}", 39999), 30))
    for _ in range(-number):
        peer = held[host].pop(0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    print("done", flush=True)
"""
"""At a line `HOST NUMBER` it opens so many connections to 127.0.0.HOST; below 0 it resets so many of the oldest."""

UNTIL_NEXT_S = 3600.0
"""An interval that no test waits for."""


@pytest.fixture
def host() -> Iterator[subprocess.Popen[str]]:
    """The program in a namespace of its own, with 100 ports."""
    with started([*INSIDE, *PORTS, "--", sys.executable, "-c", PROGRAM]) as program:
        assert heard(program) == "ready\n"
        yield program


def change(host: subprocess.Popen[str], target: int, number: int) -> None:
    """Open or reset connections."""
    assert host.stdin
    host.stdin.write(f"{target} {number}\n")
    assert heard(host) == "done\n"


def inspect_line(host: subprocess.Popen[str], *arguments: str) -> list[str]:
    """The command line of `connbench inspect` in the namespace of the program."""
    return [*INSIDE, "--join", str(host.pid), "--", COMMAND, "inspect", *arguments]


def next_lines(watch: subprocess.Popen[str], until: str) -> str:
    """The lines of a watch, to the first one that has these words."""
    read = ""
    while until not in read:
        line = heard(watch)
        assert line, (read, watch.communicate())
        read += line
    return read


def test_lines_have_what_changed_between_two_dumps(host: subprocess.Popen[str]) -> None:
    """Opened and gone of each path; a path that did not change has zeros. Ctrl-C ends it in good order."""
    change(host, 2, 30)
    change(host, 3, 5)
    with started(inspect_line(host, "--watch", "0.2")) as watch:
        first = next_lines(watch, "-> 127.0.0.3:39999")
        assert "127.0.0.1 -> 127.0.0.2:39999: 30 of 100 ports (30.0%), 0 TIME_WAIT\n" in first
        change(host, 2, 20)
        change(host, 2, -4)
        grown = next_lines(watch, "127.0.0.2:39999: 46 of 100 ports (46.0%)") + next_lines(watch, "-> 127.0.0.3:39999")
        calm = next_lines(watch, "127.0.0.2:39999: 46 of 100 ports (46.0%), 0 TIME_WAIT, opened 0/s, gone 0/s\n")
        watch.send_signal(signal.SIGINT)
        _, said = watch.communicate(timeout=HANG_S)
    assert watch.returncode == ExitCode.OK, said
    assert all("a dump takes longer" in line or "a longer time" in line for line in said.splitlines())  # a busy machine
    rates = [
        (float(one), float(other)) for one, other in re.findall(r"0\.2:\d+: .* opened (\S+)/s, gone (\S+)/s", grown)
    ]
    opened, gone = (sum(part) for part in zip(*rates, strict=True))
    assert opened > gone > 0
    assert "exhausted in" in grown
    assert "127.0.0.3:39999: 5 of 100 ports (5.0%), 0 TIME_WAIT, opened 0/s, gone 0/s\n" in grown + calm


def test_a_port_that_is_used_again_was_opened(host: subprocess.Popen[str]) -> None:
    """All ports are in use in both dumps, by other connections: as many gone as opened, and no growth."""
    change(host, 2, 100)
    with started(inspect_line(host, "--watch", "0.5")) as watch:
        next_lines(watch, "100 of 100 ports (100.0%)")
        change(host, 2, -10)
        change(host, 2, 10)
        turned = ""
        while "opened 0/s" in turned or not turned:
            turned = next_lines(watch, "100 of 100 ports (100.0%), 0 TIME_WAIT, opened")
        watch.kill()
    found = re.search(r"opened (\S+)/s, gone (\S+)/s$", turned, re.MULTILINE)
    assert found, turned
    assert found[1] == found[2]


def test_a_watch_ends_with_its_duration(host: subprocess.Popen[str]) -> None:
    """A dump at 0, 0.3, 0.6 and 0.9 s; fewer if the machine is slow."""
    change(host, 2, 1)
    done = subprocess.run(
        inspect_line(host, "--watch", "300ms", "--duration", "900ms"),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    dumps = done.stdout.count("127.0.0.2:39999: 1 of 100 ports")
    assert 1 <= dumps <= 4


def test_json_lines(host: subprocess.Popen[str]) -> None:
    """A document a dump; only the first one lacks rates. On a terminal, too, nothing is drawn."""
    change(host, 2, 3)
    with started(inspect_line(host, "--watch", "0.2", "--format", "json")) as watch:
        first, second = (json.loads(heard(watch)) for _ in range(2))
        watch.kill()
    assert first["time"] < second["time"]
    assert [first["rows"][0][name] for name in ("used", "opened_per_s")] == [3, None]
    assert [second["rows"][0][name] for name in ("used", "opened_per_s", "gone_per_s")] == [3, 0, 0]
    with terminal(inspect_line(host, "--watch", "0.2", "--format", "json")) as shown:
        shown.read_until(r'^\{"time":.*"used":3,.*\n\{"time"')


def test_a_condition_that_was_true_for_a_while_fails(
    host: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stderr has it once; the watch goes on to its end, and then exits with 1. A job's summary has the last dump."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    change(host, 2, 30)
    with started(inspect_line(host, "--watch", "0.2", "--fail-if", "used > 40%", "--fail-if", "used > 90%")) as watch:
        next_lines(watch, "(30.0%)")
        change(host, 2, 20)
        next_lines(watch, "(50.0%)")
        change(host, 2, -40)
        next_lines(watch, "(10.0%)")
        watch.send_signal(signal.SIGTERM)
        _, said = watch.communicate(timeout=HANG_S)
    assert watch.returncode == ExitCode.THRESHOLD
    assert "uses 10 of 100 ports" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    told = [line for line in said.splitlines() if line.startswith("connbench: threshold failed")]
    assert len(told) == 1
    assert re.match(r"connbench: threshold failed: \d{4}-\S+: 127.0.0.1 -> 127.0.0.2:39999: used > 40%", told[0])


def test_a_terminal_shows_what_failed_after_the_table(host: subprocess.Popen[str]) -> None:
    """Nothing is written over the table."""
    change(host, 2, 50)
    with terminal(inspect_line(host, "--watch", "0.2", "--fail-if", "used > 40%")) as shown:
        shown.read_until(ENTERS + ".*sorted by share.*sorted by share")
        shown.press("q")
        shown.read_until(LEAVES + ".*verdict.*threshold failed: ")
        assert shown.process.wait(HANG_S) == ExitCode.THRESHOLD


def test_nothing_to_watch(host: subprocess.Popen[str]) -> None:
    """A namespace without connections says so in each dump; with `head` the watch ends."""
    command = " ".join(inspect_line(host, "--watch", "0.1"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} | head -2"], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert re.fullmatch(r"(?:\S+ no path has connections\n){2}", done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--watch 0", "100ms to 24h"),
        ("--watch 1 --duration nan", "--duration nan"),
        ("--duration 5", "give --watch, too"),
        ("--exporter here:80", "'here:80'"),
        ("--watch 1 --format csv", "--watch prints no csv"),
        ("--exporter 127.0.0.1:0 --format json", "--exporter prints no json"),
    ],
)
def test_wrong_usage_of_a_watch(arguments: str, named: str) -> None:
    """Exit code 2, and nothing is inspected."""
    done = in_process("inspect", *arguments.split())
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert named in done.stderr


def scrape(host: subprocess.Popen[str], address: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The metrics of an exporter in the namespace of the program, by name and labels, as Prometheus reads them."""
    fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"
    done = subprocess.run(
        [*INSIDE, "--join", str(host.pid), "--", sys.executable, "-c", fetch, address],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    families = text_string_to_metric_families(done.stdout)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def test_exporter_serves_the_last_dump(host: subprocess.Popen[str]) -> None:
    """Its figures follow what happens, and nothing is printed; SIGTERM ends it in good order."""
    change(host, 2, 30)
    path = {"namespace": "", "protocol": "tcp", "source": "127.0.0.1", "target": "127.0.0.2", "target_port": "39999"}
    open_ones = ("connbench_inspect_connections", frozenset((path | {"state": "ESTAB"}).items()))
    opened = ("connbench_inspect_opened_per_second", frozenset(path.items()))
    with started(inspect_line(host, "--exporter", "127.0.0.1:0", "--watch", "0.3")) as watch:
        assert watch.stderr
        told = re.fullmatch(r"connbench: metrics at (http://\S+/metrics)\n", watch.stderr.readline())
        assert told
        wait_until(lambda: scrape(host, told[1]).get(open_ones) == 30, "the first dump is served")
        change(host, 2, 20)
        wait_until(lambda: scrape(host, told[1])[open_ones] == 50, "the connections that were opened are served")
        wait_until(lambda: scrape(host, told[1])[opened] == 0.0, "a dump without a change is served")
        watch.send_signal(signal.SIGTERM)
        assert watch.communicate(timeout=HANG_S) == ("", "")
    assert watch.returncode == ExitCode.OK


def test_a_scrape_takes_no_dump(host: subprocess.Popen[str]) -> None:
    """Until the next interval the figures are those of the last dump."""
    with started(inspect_line(host, "--exporter", "127.0.0.1:0")) as watch:
        assert watch.stderr
        address = watch.stderr.readline().split()[-1]
        paths, read_at = (
            (f"connbench_inspect_{name}", frozenset({("namespace", "")}))
            for name in ("paths", "read_timestamp_seconds")
        )
        wait_until(lambda: paths in scrape(host, address), "the first dump is served")
        first = scrape(host, address)
        change(host, 2, 30)
        second = scrape(host, address)
        watch.kill()
    assert first[read_at] <= time.time()
    assert second[read_at] - first[read_at] > 10 or first[paths] == second[paths]


def test_exporter_on_a_port_in_use(host: subprocess.Popen[str]) -> None:
    """Exit code 5, and what to do."""
    done = subprocess.run(
        inspect_line(host, "--exporter", "127.0.0.2:39999"),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == ExitCode.TARGET
    assert done.stderr.splitlines() == [
        "connbench: --exporter 127.0.0.2:39999 cannot listen: Address already in use",
        "  -> name an address of this machine and a free port",
    ]


class Terminal:
    """A terminal whose only program is the command.

    Attributes:
        drawn: What was written to it until now.
        process: The command.
    """

    def __init__(self, command: list[str], columns: int, lines: int, kind: str) -> None:
        self._leader, self.follower = os.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.follower)
        self.drawn = ""
        self.process = subprocess.Popen(
            command,
            stdin=self.follower,
            stdout=self.follower,
            stderr=self.follower,
            env={name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
            | {"TERM": kind},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # one call; the terminal is its own
        )

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size; the kernel tells its programs."""
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._leader, keys.encode())

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read until what was written since the last match has this pattern, and return the match."""
        end = time.monotonic() + HANG_S
        while not (found := re.search(pattern, self.drawn, re.DOTALL)):
            assert time.monotonic() < end, (pattern, self.drawn)
            if select.select([self._leader], [], [], 0.1)[0]:
                self.drawn += os.read(self._leader, 65536).decode(errors="replace")
        self.drawn = self.drawn[found.end() :]
        return found

    def close(self) -> None:
        """End the command."""
        self.process.kill()
        self.process.wait()
        os.close(self._leader)
        os.close(self.follower)


@contextmanager
def terminal(command: list[str], columns: int = 130, lines: int = 12, kind: str = "xterm") -> Iterator[Terminal]:
    """A terminal, until the end of the `with` block."""
    opened = Terminal(command, columns, lines, kind)
    try:
        yield opened
    finally:
        opened.close()


ENTERS, LEAVES = re.escape("\x1b[?1049h"), re.escape("\x1b[?1049l\x1b[?25h")
"""The alternate screen begins; it ends, and the cursor is there again."""


def is_as_before(shown: Terminal) -> bool:
    """Whether the terminal echoes and reads lines as before."""
    return termios.tcgetattr(shown.follower) == shown.before


def test_q_ends_a_table_on_a_terminal(host: subprocess.Popen[str]) -> None:
    """It is drawn on the alternate screen, follows the size and the keys, and leaves the report of the last dump."""
    change(host, 2, 30)
    change(host, 3, 5)
    with terminal(inspect_line(host, "--watch", "0.2")) as shown:
        shown.read_until(ENTERS + r".*ESTAB.*exhausted in.*0\.2:39999.*0\.3:39999.*sorted by share")
        assert not is_as_before(shown)
        shown.resize(60, 7)
        shown.read_until(r"target +used +share +exhausted in")
        shown.press("\x1b[Af")
        shown.read_until(r"keys that sort: u s f")
        shown.resize(130, 12)
        shown.read_until(r"ESTAB.*sorted by free")
        change(host, 3, 60)
        shown.read_until(r"0\.3:39999 +65 +65\.0%.*0\.2:39999 +30")
        shown.press("q")
        shown.read_until(LEAVES + r".*0\.3:39999.*65")
        assert shown.process.wait(HANG_S) == ExitCode.OK
        assert is_as_before(shown)


def test_a_terminal_without_a_screen_gets_lines(host: subprocess.Popen[str]) -> None:
    """A dumb terminal has no alternate screen; nothing is set there, and Ctrl-C ends it."""
    change(host, 2, 3)
    with terminal(inspect_line(host, "--watch", "0.2"), kind="dumb") as shown:
        shown.read_until(r"^\d{4}-\S+ 127.0.0.1 -> 127.0.0.2:39999: 3 of 100 ports \(3.0%\), 0 TIME_WAIT\r\n\d{4}")
        assert is_as_before(shown)
        shown.press("\x03")
        assert shown.process.wait(HANG_S) == ExitCode.OK


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, ExitCode.OK), (signal.SIGHUP, ExitCode.HUNG_UP)],
)
def test_a_signal_restores_the_terminal(number: signal.Signals, code: int, host: subprocess.Popen[str]) -> None:
    """While it waits for the next interval; SIGTERM ends it in good order."""
    with terminal(inspect_line(host, "--watch", str(UNTIL_NEXT_S))) as shown:
        shown.read_until(ENTERS + ".*sorted by share")
        shown.process.send_signal(number)
        shown.read_until(LEAVES)
        assert shown.process.wait(HANG_S) == code
        assert is_as_before(shown)


def test_an_error_restores_the_terminal(host: subprocess.Popen[str]) -> None:
    """Its message and earlier ones stand on the screen that the user sees then."""
    broken = (
        "import sys\n"
        "from connbench.inspect import watch\n"
        "def fail(self, width, height):\n"
        "    print('said before', file=sys.stderr)\n"
        "    raise RuntimeError('cannot draw')\n"
        "watch.View.lines = fail\n"
        "from connbench.__main__ import main; main()\n"
    )
    command = inspect_line(host, "--watch", "1")
    at = command.index(COMMAND)
    with terminal([*command[:at], sys.executable, "-c", broken, *command[at + 1 :]]) as shown:
        shown.read_until(ENTERS + ".*" + LEAVES + ".*said before.*cannot draw")
        assert shown.process.wait(HANG_S) == ExitCode.BUG
        assert is_as_before(shown)


def test_a_namespace_that_goes_ends_its_watch(host: subprocess.Popen[str]) -> None:
    """With the process that named it: exit code 4, and the message stands on the screen that the user sees then."""
    change(host, 2, 3)
    with terminal(inspect_line(host, "--netns", str(host.pid), "--watch", "0.2")) as shown:
        shown.read_until(ENTERS + r".*127.0.0.2:39999 +3 ")
        host.kill()
        host.wait()
        shown.read_until(LEAVES + rf".*connbench: there is no process {host.pid}")
        assert shown.process.wait(HANG_S) == ExitCode.ENVIRONMENT
        assert is_as_before(shown)


SHELL = """
import os, signal, sys, termios
before = termios.tcgetattr(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
os.waitpid(child, os.WUNTRACED)
print("as before" if termios.tcgetattr(0) == before else "changed", flush=True)
os.kill(child, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Runs a command in the foreground as a shell does, until Ctrl-Z stops it, and then once more."""


def test_a_stopped_watch_gives_the_terminal_back(host: subprocess.Popen[str]) -> None:
    """Ctrl-Z leaves the alternate screen, and keys echo again; continued, the watch draws as before."""
    command = [sys.executable, "-c", SHELL, *inspect_line(host, "--watch", str(UNTIL_NEXT_S))]
    with terminal(command) as shown:
        shown.read_until(ENTERS + ".*sorted by share")
        shown.press("\x1a")
        shown.read_until(LEAVES + ".*as before.*" + ENTERS + ".*sorted by share")
        shown.press("q")
        shown.read_until(LEAVES)
        assert shown.process.wait(HANG_S) == ExitCode.OK
        assert is_as_before(shown)
