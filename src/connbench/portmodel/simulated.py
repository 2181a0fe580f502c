"""What a simulated phase leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Walk:
    """The attempts of one phase, an array a column, all of one length, in the order they were made.

    Columns that `connbench.samples.COLUMNS` has too mean the same.

    Attributes:
        ports_probed: Ports that all tries of an attempt looked at, int64: steps of the kernel's loop, reserved ports
            counted. A bind() to a port looks at that one.
        checked: How often they had to see whether a socket was in the way, int64: of TCP the ports with a bind bucket,
            for which alone a search calls `__inet_check_established` (once; from 6.15 on twice for the port it takes);
            of UDP the sockets of the hash slots gone through. A bind() to a port has no search.
        tries: 1 or more, uint32.
        port: The port that was found, uint16; 0 if the attempt failed.
        errno: 0, or why it failed, uint16.
        source: Index into the plan's sources, `target` into its targets, and `lane` who made it, uint16.
    """

    ports_probed: npt.NDArray[np.int64]
    checked: npt.NDArray[np.int64]
    tries: npt.NDArray[np.uint32]
    port: npt.NDArray[np.uint16]
    errno: npt.NDArray[np.uint16]
    source: npt.NDArray[np.uint16]
    target: npt.NDArray[np.uint16]
    lane: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.tries)

    @cached_property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which attempts have no connection."""
        failed: npt.NDArray[np.bool_] = self.errno != 0
        return failed
