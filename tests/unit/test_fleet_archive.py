"""The archive of `--push`: whatever a module in it imports as it is loaded is in it, too."""

from __future__ import annotations

import ast
import io
import zipfile

from connbench.fleet.archive import LIBRARIES, make_archive


def test_archive_has_what_its_modules_import() -> None:
    """A module that a run needs from now on has to be named in `connbench.fleet.archive`."""
    with zipfile.ZipFile(io.BytesIO(make_archive())) as archive:
        names = set(archive.namelist())
        own = {name: archive.read(name) for name in names if name.startswith("connbench/") and name.endswith(".py")}
    lacking = set()
    for name, source in own.items():
        for node in ast.parse(source).body:  # not those of functions, nor those for the type checker
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
                modules = [one for one in modules if one == node.module or f"{one.replace('.', '/')}.py" in names]
            for module in modules:
                path = module.replace(".", "/")
                if module.partition(".")[0] == "connbench" and not {f"{path}.py", f"{path}/__init__.py"} & names:
                    lacking.add((name, module))
    assert lacking == set()
    assert {f"{library}/__init__.py" for library in LIBRARIES} < names


def test_archive_is_always_the_same() -> None:
    """A host need not be told by its time which one it got."""
    assert make_archive() == make_archive()
