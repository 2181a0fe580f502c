"""Runs `make test` in each environment that has broken the tests before, one after the other, and prints a table.

It prints every command, so that you can repeat it by hand. It installs no packages (NO_INSTALL=1).
The exit code is 1 if the tests fail in any environment. An environment that this machine does not have is listed with
the reason, and is not a failure.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
NOBODY = 65534
LOOP = [sys.executable, "-c", "while True: pass"]
BUSY_LOOPS = 2
TARGET = ("make", "test", "NO_INSTALL=1")

Command = list[str]


class CannotError(Exception):
    """This machine does not have an environment; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result in an environment: pytest's last line, the exit code of the command, and its duration."""

    name: str
    said: str
    code: int
    seconds: float


@contextmanager
def busy() -> Iterator[Command]:
    """Two processes that always want a CPU, beside the tests."""
    loops = [subprocess.Popen(LOOP) for _ in range(BUSY_LOOPS)]
    try:
        yield [*TARGET]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def one_cpu() -> Iterator[Command]:
    """Everything on one CPU."""
    yield ["taskset", "-c", str(min(os.sched_getaffinity(0))), *TARGET]


@contextmanager
def no_ipv6() -> Iterator[Command]:
    """A network namespace in which IPv6 is switched off, as a host's administrator does."""
    off = [word for where in ("all", "default") for word in ("--sysctl", f"net.ipv6.conf.{where}.disable_ipv6=1")]
    yield [f"{ROOT}/.venv/bin/python", "tests/faulty_host.py", *off, "--", *TARGET]


@contextmanager
def ordinary_user() -> Iterator[Command]:
    """User 65534 with a checkout and an environment of its own, for root's may be closed to it."""
    if os.geteuid() != 0:
        raise CannotError("becoming another user needs root; all others are run as an ordinary user already")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    found = [python for python in ("/usr/bin/python3", *_pythons("3")) if _works([*become, python])]
    if not found:
        raise CannotError("no Python here that user 65534 may execute")
    with tempfile.TemporaryDirectory(prefix="connbench-user-") as folder:
        home, checkout = Path(folder), Path(folder) / "connbench"
        _copy_checkout(checkout)
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        there = ["env", f"--chdir={checkout}", f"HOME={home}", f"TMPDIR={home}"]
        yield [*become, *there, *TARGET, f"PYTHON={found[0]}"]


@contextmanager
def with_python(version: str) -> Iterator[Command]:
    """A Python of that version, with a virtual environment of its own beside .venv."""
    found = [python for python in _pythons(version) if _works([python])]
    if not found:
        raise CannotError(f"no python{version} in PATH or ~/.pyenv")
    yield [*TARGET, f"PYTHON={found[0]}", f"VENV=.venv-{version}"]


@contextmanager
def oldest() -> Iterator[Command]:
    """The oldest Python and the oldest packages that pyproject.toml allows."""
    with with_python(PYTHONS[0]), tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(lower_bounds()) + "\n")
        constraints.flush()
        python = next(python for python in _pythons(PYTHONS[0]) if _works([python]))
        # What these import is new: matplotlib 3.10.0 calls what pyparsing means to give up.
        calm = "PYTEST_ADDOPTS=-W ignore::DeprecationWarning"
        there = ["env", f"PIP_CONSTRAINT={constraints.name}", calm]
        yield [*there, *TARGET, f"PYTHON={python}", "VENV=.venv-oldest"]


@contextmanager
def newest() -> Iterator[Command]:
    """The newest Python of those, and what is the newest of each package today."""
    with with_python(PYTHONS[-1]) as command, tempfile.TemporaryDirectory(prefix="connbench-newest-") as folder:
        # Below that folder, which is closed to other users: the tests of what they may do open the way to this one.
        yield [*command[:-1], f"VENV={folder}/venv"]


def lower_bounds() -> list[str]:
    """The lower bound of every dependency in pyproject.toml as a version that pip is to install: `numpy==1.26`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    return [one.replace(">=", "==") for one in asked if ">=" in one]


def _pythons(version: str) -> list[str]:
    in_path = shutil.which(f"python{version}")
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    return [*map(str, pyenv), *([in_path] if in_path else [])]


def _works(python: Command) -> bool:
    return subprocess.run([*python, "-c", "import venv"], capture_output=True, check=False, cwd="/").returncode == 0


def _copy_checkout(into: Path) -> None:
    """What git knows of this checkout, as it stands here, and what is new and not ignored."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)


ENVIRONMENTS: dict[str, Callable[[], AbstractContextManager[Command]]] = {
    "busy": busy,
    "one-cpu": one_cpu,
    "no-ipv6": no_ipv6,
    "user": ordinary_user,
    "oldest": oldest,
    "newest": newest,
    **{f"python{version}": partial(with_python, version) for version in PYTHONS},
}


def meaning(environment: Callable[[], AbstractContextManager[Command]]) -> str:
    """What an environment is, in one line."""
    function = environment.func if isinstance(environment, partial) else environment
    return (function.__doc__ or "").splitlines()[0]


def run_in(name: str, environment: Callable[[], AbstractContextManager[Command]]) -> Outcome:
    """Run the tests in an environment, and pass on what they print."""
    begun = time.monotonic()
    try:
        with environment() as command:
            print(f"\n== {name}: {meaning(environment)}\n{shlex.join(command)}", flush=True)
            end = b""
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0) as process:
                while process.stdout and (piece := process.stdout.read(4096)):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.flush()
                    end = (end + piece)[-4096:]
        lines = [line.strip(" =") for line in end.decode(errors="replace").splitlines() if not line.startswith("make")]
        return Outcome(name, next(filter(None, reversed(lines)), ""), process.returncode, time.monotonic() - begun)
    except CannotError as reason:
        return Outcome(name, f"not here: {reason}", 0, 0.0)


def main() -> int:
    """Run the tests in the named environments, or in all of them."""
    lines = [f"  {name:<12}{meaning(environment)}" for name, environment in ENVIRONMENTS.items()]
    parser = argparse.ArgumentParser(
        description=textwrap.dedent(__doc__ or ""),
        epilog="environments:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="ENVIRONMENT", help="run only these; the default is all")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(ENVIRONMENTS):
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    outcomes = [run_in(name, ENVIRONMENTS[name]) for name in asked.names or ENVIRONMENTS]
    print()
    for one in outcomes:
        print(f"{one.name:<12}{'failed' if one.code else 'ok':<8}{one.seconds:6.0f} s  {one.said}")
    return int(any(one.code for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
