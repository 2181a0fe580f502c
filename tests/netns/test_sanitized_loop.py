"""The loop in C under AddressSanitizer and UndefinedBehaviorSanitizer: they check each access of other tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import connbench
from required_programs import needs, require

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
TESTS = Path(__file__).parents[1]
CHECKED = [
    TESTS / "unit/test_loop_in_c.py",
    *(
        TESTS / f"netns/test_{name}.py"
        for name in (
            "two_loops",
            "loop_ends",
            "port_search",
            "load_shapes",
            "peer_reset",
            "udp",
            "ipv6",
            "in_flight",
            "profile",
        )
    ),
]
READS_BEYOND = "int main(int n, char **v) { int a[2] = {n}; (void)v; return a[n + 1]; }"


def library(compiler: str, name: str) -> str:
    """The path of a sanitizer's library."""
    path = subprocess.run([compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout
    if not Path(path.strip()).is_absolute():
        pytest.skip(f"no {name} here: it comes with gcc")
    return path.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that loads a copy of connbench whose loop in C is instrumented."""
    compiler, folder = require("cc"), tmp_path_factory.mktemp("sanitized")
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        pytest.skip("no Python.h here: apt-get install python3-dev")
    copy = folder / "connbench"
    shutil.copytree(Path(connbench.__file__).parent, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    output = copy / "engine/_loop.abi3.so"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    build = [compiler, *SANITIZERS, *warnings, "-shared", "-fPIC", "-DPy_LIMITED_API=0x030B0000", "-isystem", headers]
    subprocess.run([*build, copy / "engine/_loop.c", "-o", output], check=True)
    return os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",  # each object in a piece of its own, so that no access beyond one is missed
        "LD_PRELOAD": f"{library(compiler, 'libasan.so')} {library(compiler, 'libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@needs("cc")
def test_the_copy_is_what_runs(environment: dict[str, str], tmp_path: Path) -> None:
    """Python loads the instrumented copy, and the sanitizers end a program that reads beyond an array."""
    code = "import connbench.engine._loop as loop; print(loop.__file__)"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == f"{environment['PYTHONPATH']}/connbench/engine/_loop.abi3.so"
    source, program = tmp_path / "beyond.c", tmp_path / "beyond"
    source.write_text(READS_BEYOND, encoding="ascii")
    subprocess.run([require("cc"), *SANITIZERS, source, "-o", program], check=True)
    ended = subprocess.run([program], check=False, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "out of bounds" in ended.stderr or "stack-buffer-overflow" in ended.stderr


@pytest.mark.slow
@needs("cc")
@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.stem)
def test_no_sanitizer_ends_the_loop(path: Path, environment: dict[str, str]) -> None:
    """A worker that a sanitizer ends fails the test that it runs for."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not python", str(path)]
    ended = subprocess.run(command, env=environment, cwd=TESTS.parent, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert " passed" in ended.stdout
