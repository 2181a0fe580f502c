"""Builds connbench's one C extension, the measured loop. Everything else of the package is in pyproject.toml.

The extension is optional: where it cannot be built, the build says why in one line that begins with "connbench:", and
the wheel is one for any platform, with the loop in Python alone. `pip -v` shows that line.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SHARE = Path("share")
"""Man pages and completions, if `make man` has written them: they are made with the commands, which a build has not."""

LOOP = Extension(
    "connbench.engine._loop",
    ["src/connbench/engine/_loop.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],  # one build for CPython 3.11 and later
    extra_compile_args=["-O2"],
    py_limited_api=True,
    optional=True,
)


class BuildLoop(build_ext):
    """`build_ext` that goes on without the extension, and leaves none of an earlier build in its place."""

    def run(self) -> None:
        """Build the extension, and make the wheel one for any platform if that failed."""
        super().run()
        wheel = self.distribution.get_command_obj("bdist_wheel")
        if Path(self.build_lib, self.get_ext_filename(LOOP.name)).exists():
            wheel.py_limited_api = "cp311"
            return
        self.warn(f"connbench: built without its loop in C: {self._reason()}; the loop in Python does its work")
        if self.inplace:
            Path(self.get_ext_fullpath(LOOP.name)).unlink(missing_ok=True)
        wheel.root_is_pure = True
        self.extensions = []
        self.distribution.ext_modules = None

    def _reason(self) -> str:
        compiler = self.compiler.compiler_so[0]
        if shutil.which(compiler) is None:
            return f"no C compiler ({compiler}) here; on Debian: apt-get install gcc libc6-dev python3-dev"
        if not any(Path(folder, "Python.h").exists() for folder in self.compiler.include_dirs):
            return "no Python.h here; on Debian: apt-get install python3-dev"
        return f"{compiler} could not compile {LOOP.sources[0]}"


def shared_files() -> list[tuple[str, list[str]]]:
    """Each folder of SHARE with its files, as an installation has them below its prefix."""
    folders = sorted({path.parent for path in SHARE.rglob("*") if path.is_file()})
    return [(str(folder), sorted(str(path) for path in folder.iterdir() if path.is_file())) for folder in folders]


# Nothing of an earlier build is taken up: setuptools would pack a module that is gone if its copy is still in build/.
with tempfile.TemporaryDirectory(prefix="connbench-build-") as folder:
    setup(
        ext_modules=[LOOP],
        cmdclass={"build_ext": BuildLoop},
        data_files=shared_files(),
        options={"build": {"build_base": folder}},
    )
