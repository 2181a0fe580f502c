"""What `--push` sends to a host that has Python and nothing else: connbench's agent in an archive that Python imports.

The archive is never a file over there. `BOOTSTRAP`, which is the command that Python gets, takes it from stdin into
memory, and becomes the agent; engine processes inherit it. It ends with them, however they end, so nothing can stay
behind. It carries the agent's part of connbench, click and pyroute2, which are
of Python alone, and the loop in C, which a host of another architecture does without.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import connbench

PACKAGES = ("engine", "host", "linux", "model", "planner")
"""Folders of connbench that the agent needs whole; of the others below it needs some modules, and no numpy."""

MODULES = (
    *("__init__", "__main__", "draws", "errors", "findings", "interrupts", "kernel_release", "path_conditions"),
    *("rounds", "safe_text", "samples", "strategies", "thresholds", "units", "wording"),
    *("commands/__init__", "commands/answers", "commands/doctor", "commands/gates", "commands/messages"),
    *("commands/options", "commands/progress", "commands/reports", "commands/result_writer", "commands/run"),
    *("commands/sections", "commands/values"),
    *("fleet/__init__", "fleet/agent", "fleet/command", "fleet/protocol"),
    *("report/__init__", "report/formats", "report/libraries"),
    *("results/__init__", "results/output_file", "results/plain_document"),
)
"""Single modules, by their place in connbench."""

LIBRARIES = ("click", "pyroute2")
"""Of Python alone, so that any Python imports them."""

LOOP, LOOP_IN_ARCHIVE = "fleet/loop_in_archive.py", "connbench/engine/_loop.py"
"""The module that loads the loop in C from an archive, and the name under which it is there."""

BOOTSTRAP = """
import os, sys
if sys.version_info < (3, 11):
    sys.exit("connbench: it needs Python 3.11 or newer, and this is Python %d.%d" % sys.version_info[:2])
left, archive = int(sys.argv[1]), os.memfd_create("connbench", 0)
while left:
    piece = os.read(0, min(left, 65536))
    if not piece:
        sys.exit("connbench: stdin has ended within the archive")
    left -= os.write(archive, piece)
os.environ["PYTHONPATH"] = "/proc/self/fd/%d" % archive
os.environ["CONNBENCH_ARCHIVE"] = str(archive)
os.execv(sys.executable, [sys.executable, "-P", "-m", "connbench"] + sys.argv[2:])
"""
"""Reads an archive of so many bytes as its first argument says, and runs connbench from it with the others."""


def make_archive() -> bytes:
    """The archive, always the same for one installation."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in _members():
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _members() -> Iterator[tuple[str, Path]]:
    """Each name in the archive, and the file that it is read from."""
    root = Path(connbench.__file__).parent
    for name in MODULES:
        yield f"connbench/{name}.py", root / f"{name}.py"
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            yield f"connbench/{file.relative_to(root)}", file
    loops = sorted((root / "engine").glob("_loop.abi3.so"))
    if loops:
        yield LOOP_IN_ARCHIVE, root / LOOP
        yield f"connbench/engine/{loops[0].name}", loops[0]
    for library in LIBRARIES:
        found = Path(str(import_module(library).__file__)).parent
        for file in sorted(found.rglob("*.py")):
            yield f"{library}/{file.relative_to(found)}", file
