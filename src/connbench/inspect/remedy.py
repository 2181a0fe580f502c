"""What to do about a path whose connect() is slow, or is about to find no port."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do.

    Attributes:
        sentences: What to do, with figures: one to three sentences, the most important first; the first begins with
            "Do: ".
        command: A command line of `connbench advise` with the measured numbers; empty if none can state them.
    """

    sentences: tuple[str, ...]
    command: str
