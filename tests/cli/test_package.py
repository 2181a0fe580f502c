"""What the build makes of a checkout: a wheel with the loop in C, one without it, and an sdist that installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from required_programs import needs

ROOT = Path(__file__).parents[2]
BUILD = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
EXTENSION = "connbench/engine/_loop.abi3.so"
PLATFORM = sysconfig.get_platform().replace("-", "_")
NOT_COMMITTED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, for a build writes into it."""
    copy = tmp_path_factory.mktemp("checkout") / "connbench"
    for folder in ("src", "tests", "scripts", "docs", "examples"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=NOT_COMMITTED)
    for file in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy2(file, copy)
    return copy


def build(kind: str, checkout: Path, into: Path, **environment: str) -> tuple[Path, str]:
    """Build an sdist or a wheel; return its path, and what the build printed."""
    command = [*BUILD, str(into), f"--{kind}", str(checkout)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = into.iterdir()
    return built, done.stdout + done.stderr


def modules(wheel: Path) -> set[str]:
    """The files in a wheel, without its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def package_files(checkout: Path) -> set[str]:
    """The files of the package in a checkout, without sources in C."""
    source = checkout / "src"
    files = {path for path in source.rglob("*") if path.is_file() and path.suffix not in {".c", ".pyc"}}
    return {str(path.relative_to(source)) for path in files if ".egg-info" not in str(path)}


@pytest.mark.slow
@needs("cc")
@needs("python3-config")
def test_wheel_has_the_loop_in_c_for_every_python(checkout: Path, tmp_path: Path) -> None:
    """The stable ABI of 3.11: one wheel for it and all later ones, with all else of the package."""
    wheel, _ = build("wheel", checkout, tmp_path)
    assert wheel.name.endswith(f"-cp311-abi3-{PLATFORM}.whl")
    assert modules(wheel) == package_files(checkout) | {EXTENSION}


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nowhere/cc", "no C compiler (/nowhere/cc) here"),
        pytest.param("false", "false could not compile", marks=pytest.mark.slow),
    ],
)
def test_wheel_without_a_compiler_is_for_any_platform(
    checkout: Path, tmp_path: Path, compiler: str, reason: str
) -> None:
    """The build goes on, says why in one line, and does not tie a wheel of pure Python to a platform."""
    wheel, said = build("wheel", checkout, tmp_path, CC=compiler)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert modules(wheel) == package_files(checkout)
    [line] = [line for line in said.splitlines() if "connbench: built without its loop in C" in line]
    assert reason in line


@pytest.mark.parametrize(
    "has_compiler",
    [pytest.param(True, marks=[needs("cc"), needs("python3-config")]), pytest.param(False, marks=pytest.mark.slow)],
)
def test_sdist_installs_and_runs(checkout: Path, tmp_path: Path, *, has_compiler: bool) -> None:
    """In an environment of its own, where only what connbench requires is taken from this one; with either loop."""
    sdist, _ = build("sdist", checkout, tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {f"src/{name}" for name in package_files(checkout)}
    assert names >= {
        "src/connbench/engine/_loop.c",
        "tests/conftest.py",
        "scripts/kernel-lab",
        "docs/ci.md",
        "examples/c/client.c",
        "Makefile",
    }

    environment = tmp_path / "venv"
    venv.create(environment)
    [site] = environment.glob("lib/python3*/site-packages")
    (site / "required.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python, pip = environment / "bin" / "python", [sys.executable, "-m", "pip", "--python", str(environment)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", str(sdist)],
        env=os.environ if has_compiler else {**os.environ, "CC": "false"},
        check=True,
    )
    where = "import connbench, pathlib; print(*pathlib.Path(connbench.__file__).parent.glob('engine/*.so'))"
    extension = subprocess.run([python, "-P", "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    assert extension == (str(site / EXTENSION) if has_compiler else "")
    run = [str(environment / "bin" / "connbench"), "run", "-n", "100", "--port-range", "40000-40999"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert f"loop {'C' if has_compiler else 'Python'}, " in done.stdout
    assert "connection attempts: 100 errored: 0 total: 100" in done.stdout
