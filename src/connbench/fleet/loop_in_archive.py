"""Stands for the loop in C in an archive: the dynamic linker loads no member of one, but it loads a file in memory.

It has the loop's name there, `connbench.engine._loop`, and Python finds the loop in its place once it is imported.
"""

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

_descriptor = os.memfd_create("connbench-loop")
try:
    with os.fdopen(os.dup(_descriptor), "wb") as _file:
        _file.write(__loader__.get_data(__file__.replace("_loop.py", "_loop.abi3.so")))  # type: ignore[name-defined]  # that of the archive
    _path = f"/proc/self/fd/{_descriptor}"
    _spec = spec_from_file_location(__name__, _path, loader=ExtensionFileLoader(__name__, _path))
    if _spec is None or _spec.loader is None:
        raise ImportError("it has no loader", name=__name__)
    _module = module_from_spec(_spec)
    _spec.loader.exec_module(_module)
finally:
    os.close(_descriptor)
sys.modules[__name__] = _module
