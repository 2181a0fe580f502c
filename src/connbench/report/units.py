"""Numbers as people read them: those of `connbench.units`, by the name that reports know them by."""

from connbench.units import count, duration

__all__ = ["count", "duration"]
