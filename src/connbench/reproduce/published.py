"""The figures the talk published, as the package has them in `talk.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from connbench.units import NS_PER_MS, NS_PER_S


@dataclass(frozen=True, slots=True)
class PublishedParity:
    """The successful connections of one port parity; times in ns."""

    count: int
    mean_ns: float


@dataclass(frozen=True, slots=True)
class Published:
    """One of the talk's runs; times in ns."""

    title: str
    attempts: int
    errored: int
    total_ns: float
    even: PublishedParity
    odd: PublishedParity

    @property
    def odd_to_even(self) -> float:
        """How many times an even port an odd one cost, by their means."""
        return self.odd.mean_ns / self.even.mean_ns


@cache
def published() -> dict[str, Published]:
    """Every run of the talk by its key in `talk.toml`."""
    text = files("connbench.reproduce").joinpath("talk.toml").read_text(encoding="utf-8")
    return {
        key: Published(
            title=run["title"],
            attempts=run["attempts"],
            errored=run["errored"],
            total_ns=run["total_s"] * NS_PER_S,
            even=_parity(run["even"]),
            odd=_parity(run["odd"]),
        )
        for key, run in tomllib.loads(text).items()
    }


def _parity(figures: dict[str, float]) -> PublishedParity:
    return PublishedParity(int(figures["n"]), figures["avg"] * NS_PER_MS)
