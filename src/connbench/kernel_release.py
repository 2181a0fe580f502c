"""The version of a Linux kernel, read from its release, and the versions whose port search differs."""

from __future__ import annotations

import re

PARITY_WALK_SINCE = (4, 6)
"""The first Linux whose connect() probes all ports of one parity before the others (1580ab63fc9a)."""

ONE_STEP_SINCE = (6, 8)
"""The first Linux that probes both parities alike where IP_LOCAL_PORT_RANGE is set (207184853dbd)."""


def version_of(release: str) -> tuple[int, int] | None:
    """Major and minor of `6.1` or `6.1.0-13-amd64` (uname(2)); None if the release does not begin so."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})(?!\d)", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None
