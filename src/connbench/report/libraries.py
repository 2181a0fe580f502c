"""The libraries that come with an extra of connbench, not with connbench itself."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from connbench.errors import EnvironmentFault

EXTRA_OF: Final = {
    "matplotlib": "plot",
    "plotext": "plot",
    "jinja2": "html",
    "plotly": "html",
    "prometheus_client": "metrics",
    "pyarrow": "parquet",
    "hdrh": "hdr",
    "ClusterShell": "fleet",
}
"""Which extra installs each, by the name of the module."""


def require(library: str, subject: str) -> None:
    """Check that a library is installed, before anything is measured or read for it.

    Args:
        library: A name of `EXTRA_OF`.
        subject: What needs it, as the beginning of a sentence: `an HTML page`.

    Raises:
        EnvironmentFault: It is not installed.
    """
    if find_spec(library) is None:
        raise EnvironmentFault(
            f"{subject} needs {library}, which is not installed", f"pip install 'connbench[{EXTRA_OF[library]}]'"
        )
