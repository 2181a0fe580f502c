"""Where a logarithmic axis has its ticks; loads matplotlib."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

FEWEST = 3
"""Ticks from which one sees how an axis runs."""

STEPS = ((1, 2, 5), tuple(range(1, 10)))
"""Multiples of the powers of ten that have ticks: the first of these that makes enough."""


class EnoughTicks(LogLocator):
    """Ticks of an axis to base 10: three or more within it, however little of a decade it shows."""

    def __init__(self) -> None:
        super().__init__(subs=STEPS[0], numticks=14)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """As matplotlib asks for them; round numbers as of a linear axis where multiples of powers are too few."""
        low, high = min(vmin, vmax), max(vmin, vmax)
        for steps in STEPS:
            self.set_params(subs=steps)
            ticks = [float(tick) for tick in np.asarray(super().tick_values(vmin, vmax))]
            if sum(low <= tick <= high for tick in ticks) >= FEWEST:
                return ticks
        return [float(tick) for tick in np.asarray(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax))]
