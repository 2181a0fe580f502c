"""The hosts of a fleet: their names, how to reach them, and one command on all of them.

ClusterShell reads host sets and groups, keeps the fan-out, starts ssh for each host, and tells of every line and every
end. This module gives it the two ways to a host, limits for what a host may send, and its faults the form of
connbench's. Nothing that a host says becomes part of a command.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil, prod
from typing import Any

from ClusterShell.Event import EventHandler
from ClusterShell.NodeSet import NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolverError, GroupSourceError
from ClusterShell.Task import Task, task_self
from ClusterShell.Worker.EngineClient import EngineClientEOF
from ClusterShell.Worker.Exec import CopyClient, ExecClient, ExecWorker
from ClusterShell.Worker.Ssh import ScpClient, SshClient, WorkerSsh

from connbench.errors import ConnbenchError, EnvironmentFault, RunFault, UsageError
from connbench.findings import Finding, Severity, merge_alike
from connbench.fleet.archive import BOOTSTRAP
from connbench.safe_text import printable

MOST_HOSTS = 10_000
"""Hosts of a set: a range such as `web[1-999999999]` is a slip."""

LONGEST_STDERR = 64 << 10
"""Bytes that a host may write to stderr."""

LONGEST_REASON = 300
"""Characters of a host's own words in a message."""

NOT_EXECUTABLE, NOT_FOUND, SSH_FAILED = 126, 127, 255
"""Exit codes of a shell, and that of ssh for a fault of its own."""


_SET, _RANGES, _RANGE = (
    re.compile(r"(?:\[[^\]]*\]|[^\[,])+"),
    re.compile(r"\[[^\]]*\]"),
    re.compile(r"(\d+)-(\d+)", re.ASCII),
)


class Via(StrEnum):
    """The ways to a host."""

    SSH = "ssh"
    NETNS = "netns"


PROGRAMS = {Via.SSH: "ssh", Via.NETNS: "ip"}
"""What each way starts on this machine."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of a command, and how it reaches them.

    Attributes:
        names: Their names, each once, in the order of the set.
        via: The way to them.
        fanout: How many are busy at a time.
        timeout_s: How long each may take, in seconds.
        python: The Python over there that has connbench; empty for the `connbench` that a shell finds there, and for
            this Python where the hosts are network namespaces of this machine.
        archive: The connbench that is sent to a host, from `connbench.fleet.archive`; empty where it has its own. Then
            `python` needs none, and is `python3` if it is empty.
    """

    names: tuple[str, ...]
    via: Via = Via.SSH
    fanout: int = 64
    timeout_s: float = 30.0
    python: str = ""
    archive: bytes = field(default=b"", repr=False)

    @property
    def connbench(self) -> tuple[str, ...]:
        """The words that start connbench over there; it then reads `archive` from stdin, if there is one."""
        if self.archive:
            python = self.python or (sys.executable if self.via is Via.NETNS else "python3")
            return (python, "-I", "-c", BOOTSTRAP, str(len(self.archive)))
        if self.python:
            return (self.python, "-P", "-m", "connbench")
        return ("connbench",) if self.via is Via.SSH else (sys.executable, "-P", "-m", "connbench")


def parse_hosts(text: str) -> tuple[str, ...]:
    """The names of a host set, as ClusterShell writes it: `web[1-8],db1` or `@edge`.

    Raises:
        UsageError: The text is no host set, names no host or too many, or a group that is not known.
    """
    if _most_names(text) > MOST_HOSTS:  # before NodeSet reads it, which has each number of a range in memory
        raise UsageError(f"{text!r} has too many hosts", f"name at most {MOST_HOSTS:,}")
    try:
        found = NodeSet(text)
        names = tuple(str(name) for name in found)
    except (NodeSetException, GroupSourceError, GroupResolverError, ValueError) as error:  # int() has a limit of digits
        raise UsageError(
            f"{text!r} is no host set: {printable(str(error))}",
            "write names as in 'web[1-8],db1', or a group of ClusterShell's as in '@edge'",
        ) from error
    wrong = next(
        (name for name in names if name.startswith("-") or not name.isprintable() or {" ", "/"} & {*name}), None
    )
    if wrong is not None:
        raise UsageError(f"{wrong!r} is no name of a host", "write names as in 'web[1-8],db1'")
    if any("@" in name for name in names):  # scp takes such a name for one of a host
        raise UsageError(f"{text!r} has a user's name in it", "give the host that User in ~/.ssh/config")
    if not names:
        of_group = "`nodeset --list` lists the groups that ClusterShell knows"
        raise UsageError(f"{text!r} names no host", of_group if "@" in text else "write names as in 'web[1-8],db1'")
    return names


def folded(names: Iterable[str]) -> str:
    """A host set in one word: `web[1-8],db1`."""
    return str(NodeSet.fromlist(list(names)))


def by_hosts(found: Iterable[tuple[str, Finding]]) -> list[Finding]:
    """Findings of hosts, each once with the set of all hosts that have it, the worst first."""
    hosts: dict[Finding, list[str]] = {}
    for host, one in found:
        hosts.setdefault(replace(one, strategy=None, round=None), []).append(host)
    worst_first = [*Severity][::-1]
    merged = merge_alike(replace(one, strategy=printable(folded(names))) for one, names in hosts.items())
    return sorted(merged, key=lambda one: worst_first.index(one.severity))


def _most_names(text: str) -> int:
    """How many names a host set has at most; the ranges in one name multiply."""
    return sum(
        prod(
            1 + sum(max(0, int(last[:18]) - int(first[:18])) for first, last in _RANGE.findall(ranges))
            for ranges in _RANGES.findall(name)
        )
        for name in _SET.findall(text)
    )


@dataclass(slots=True)
class Answer:
    """What a host answered to a command.

    Attributes:
        host: Its name.
        stdout: What it printed.
        stderr: What it printed there.
        exit_code: The exit code of the command; None if it has none, because it took too long or sent too much.
        fault: Why there is none.
    """

    host: str
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    exit_code: int | None = None
    fault: ConnbenchError | None = None

    @property
    def last_words(self) -> str:
        """The last line of its stderr, printable and short; empty for none."""
        lines = [line.strip() for line in self.stderr.decode(errors="replace").splitlines() if line.strip()]
        return printable(lines[-1])[:LONGEST_REASON] if lines else ""


def run_everywhere(hosts: Hosts, words: Sequence[str], longest: int, given: bytes = b"") -> dict[str, Answer]:
    """Run one command on every host, and wait for all of them.

    Args:
        hosts: The hosts.
        words: The command and its arguments; a shell over there gets them quoted.
        longest: Bytes that a host may print on stdout; one that prints more is cut off.
        given: What the command reads on stdin.

    Returns:
        What each host answered, by its name.

    Raises:
        EnvironmentFault: The program that reaches hosts is not installed here.
    """
    answers = {name: Answer(name) for name in hosts.names}
    collector = _Collector(answers)
    with new_task(hosts) as task:
        worker = make_worker(hosts, hosts.names, words, collector)
        worker.longest, worker.is_raw = longest, True
        if given:
            worker.write(given)
        worker.set_write_eof()
        task.schedule(worker)
        task.resume()
    for answer in answers.values():
        answer.fault = _fault_of(hosts, answer, collector)
    return answers


# ---- ClusterShell


OWN_SESSION = ("setsid",) if shutil.which("setsid") else ()
"""Gives a program a session of its own: Ctrl-C then reaches connbench alone, which ends what it started."""

SSH_OPTIONS = "-oBatchMode=yes -oServerAliveInterval=5 -oServerAliveCountMax=3"
"""ssh asks nothing, and notices a cut link after 15 s. scp too, to which ClusterShell gives no BatchMode of its own."""


@contextmanager
def new_task(hosts: Hosts) -> Iterator[Task]:
    """A context with ClusterShell's task for these hosts; what runs at its end, as after an interruption, is killed.

    Raises:
        EnvironmentFault: The program that reaches hosts is not installed here.
    """
    program = PROGRAMS[hosts.via]
    if shutil.which(program) is None:
        raise EnvironmentFault(f"{program} is not installed here, and --via {hosts.via} needs it", f"install {program}")
    task = task_self()
    task.set_default("auto_tree", False)
    for name in ("stdout_msgtree", "stderr_msgtree"):  # ClusterShell's own copy of all output
        task.set_default(name, False)
    task.set_info("fanout", hosts.fanout)
    task.set_info("connect_timeout", ceil(hosts.timeout_s))
    task.set_info("ssh_path", " ".join([*OWN_SESSION, "ssh"]))
    task.set_info("scp_path", " ".join([*OWN_SESSION, "scp"]))
    task.set_info("ssh_options", SSH_OPTIONS)
    try:
        yield task
    finally:
        task.abort(kill=True)


class _Limited:
    """Of a client of ClusterShell: it reads no more of a host than its worker allows."""

    def _read(self, sname: str, size: int = 65536) -> bytes:
        piece: bytes = super()._read(sname, size)  # type: ignore[misc]  # that of ClusterShell's client
        taken: dict[str, int] = self.__dict__.setdefault("_taken", {})
        taken[sname] = taken.get(sname, 0) + len(piece)
        worker: Any = self.worker  # type: ignore[attr-defined]  # as above
        limit = worker.longest if sname == worker.SNAME_STDOUT else LONGEST_STDERR
        if taken[sname] > limit:
            worker.eh.too_long.add((self.key, limit))  # type: ignore[attr-defined]  # as above
            self.popen.kill()  # type: ignore[attr-defined]  # as above
            raise EngineClientEOF
        return piece

    def _readlines(self, sname: str) -> Iterator[bytes]:
        if getattr(self.worker, "is_raw", False):  # type: ignore[attr-defined]  # as above
            yield self._read(sname)  # what has arrived, as it is: millions of short lines would be as many events
        else:
            yield from super()._readlines(sname)  # type: ignore[misc]  # as above


class _SshClient(_Limited, SshClient):  # type: ignore[misc]  # ClusterShell has no types
    """ssh to a host."""


class _NetnsClient(_Limited, ExecClient):  # type: ignore[misc]  # as above
    """A network namespace of this machine, which `ip netns` has a name for."""

    def _build_cmd(self) -> tuple[list[str], None]:
        return [*OWN_SESSION, "ip", "netns", "exec", str(self.key), "sh", "-c", f"exec {self.command}"], None


class _ScpClient(ScpClient):  # type: ignore[misc]  # as above
    """scp of one file of a host to a path here. Without -r: a host may have a folder there, which has no end."""

    def _build_cmd(self) -> tuple[list[str], None]:
        self.isdir = False
        words, _ = super()._build_cmd()
        return [*words[:-1], self.worker.into], None  # for ClusterShell, the last one is a name in a folder


class _CpClient(CopyClient):  # type: ignore[misc]  # as above
    """cp of one file."""

    def _build_cmd(self) -> tuple[list[str], None]:
        return ["cp", self.source, self.worker.into], None


class _WorkerSsh(WorkerSsh):  # type: ignore[misc]  # as above
    SHELL_CLASS = _SshClient
    COPY_CLASS = _ScpClient


class _WorkerNetns(ExecWorker):  # type: ignore[misc]  # as above
    SHELL_CLASS = _NetnsClient
    COPY_CLASS = _CpClient


def make_worker(
    hosts: Hosts, names: Sequence[str], words: Sequence[str], handler: EventHandler, timeout_s: float | None = None
) -> Any:  # noqa: ANN401  # ClusterShell has no types
    """ClusterShell's worker that runs a command on some of the hosts; schedule it in the task of `new_task`.

    Args:
        hosts: How to reach them.
        names: Which of them.
        words: The command and its arguments.
        timeout_s: How long it may take, in seconds; -1 for any time, None for that of `hosts`.
        handler: Gets its events; what a host sent beyond `longest` of the worker, it does not get.
    """
    kind = _WorkerSsh if hosts.via is Via.SSH else _WorkerNetns
    nodes = NodeSet.fromlist(names)
    timeout = hosts.timeout_s if timeout_s is None else timeout_s
    return kind(nodes, handler=handler, timeout=timeout, command=shlex.join(words), stderr=True)


def copy_worker(hosts: Hosts, name: str, source: str, file: int, handler: EventHandler) -> Any:  # noqa: ANN401  # as above
    """ClusterShell's worker that copies a file of one host.

    Args:
        hosts: How to reach it.
        name: The host.
        source: The file there.
        file: Descriptor of the file here, which needs no name.
        handler: Gets its events.
    """
    kind = _WorkerSsh if hosts.via is Via.SSH else _WorkerNetns
    nodes = NodeSet.fromlist([name])  # `dest` has to be a folder, and is not used
    worker = kind(nodes, handler=handler, timeout=-1, source=source, dest="/", reverse=True, stderr=True)
    worker.into = f"/proc/{os.getpid()}/fd/{file}"
    return worker


class _Collector(EventHandler):  # type: ignore[misc]  # ClusterShell has no types
    """Collects what hosts answer."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__()
        self._answers = answers
        self.too_long: set[tuple[str, int]] = set()
        self.too_late: set[str] = set()

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:  # noqa: ANN401  # as above
        """A host printed something."""
        answer = self._answers[node]
        if sname == worker.SNAME_STDOUT:
            answer.stdout += msg
        else:
            answer.stderr += msg

    def ev_hup(self, worker: Any, node: str, rc: int) -> None:  # noqa: ANN401, ARG002  # as above
        """A command has ended."""
        self._answers[node].exit_code = rc

    def ev_close(self, worker: Any, timedout: bool) -> None:  # noqa: ANN401  # as above
        """All have ended."""
        if timedout:
            self.too_late.update(worker.iter_keys_timeout())


def _fault_of(hosts: Hosts, answer: Answer, collector: _Collector) -> ConnbenchError | None:
    """Why a host did not run the command; None if it did, whatever its exit code."""
    host, code = answer.host, answer.exit_code
    words = answer.last_words or f"exit code {code}"
    limit = next((limit for name, limit in collector.too_long if name == host), None)
    fault: ConnbenchError | None = None
    if limit is not None:
        fault = RunFault(f"{host} sent more than {limit >> 10:,} KiB", "see what it prints to every shell")
    elif host in collector.too_late:
        fault = RunFault(f"{host} has not answered in {hosts.timeout_s:g} s", "give --timeout more, or leave it out")
    elif code is None:
        fault = RunFault(f"{host} was lost", "see that it is reached again")
    elif code == SSH_FAILED and hosts.via is Via.SSH:
        fault = RunFault(f"{host}: {words}", f"try: ssh -o BatchMode=yes {shlex.quote(host)} true")
    elif code and hosts.via is Via.NETNS and "Cannot open network namespace" in words:
        fault = RunFault(f"{host}: no network namespace here has this name", "ip netns list shows those that there are")
    elif code in {NOT_FOUND, NOT_EXECUTABLE}:
        advice = "install it there (pip install connbench), or name the Python that has it with --python"
        fault = EnvironmentFault(f"{host} has no connbench: {words}", advice)
    if fault:
        answer.exit_code = None
    return fault


def how_to_install(hosts: Hosts) -> str:
    """What gives a host the connbench, or the Python, that it lacks."""
    if hosts.archive:
        return "name a Python there, 3.11 or newer, with --python"
    if hosts.python:
        return "name another Python with --python, or give --push, which needs Python 3.11 alone"
    return "install it there (pip install connbench), name its Python with --python, or give --push"
