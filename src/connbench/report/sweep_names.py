"""The settings and loads of a sweep by what tells them apart: `80%` where only the fill differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connbench.model import Churn, Load, StrategySpec
from connbench.units import format_percent, per_second


@dataclass(frozen=True, slots=True)
class Names:
    """Short names of settings and loads.

    Attributes:
        heading: What they are, for the head of a column: `fill`, or `load` where more than that differs.
        short: A name for each, in the loads' order; empty where there is but one load.
        common: What all loads have in common and that is not as usual.
        setting: A name for each setting, without what follows the strategy and its window in all of them.
        setting_common: What that is.
    """

    heading: str
    short: dict[Load, str]
    common: str
    setting: dict[StrategySpec, str]
    setting_common: str

    @classmethod
    def of(cls, loads: Sequence[Load], settings: Sequence[StrategySpec] = ()) -> Names:
        """Name each by the parts in which some differ."""
        parts = {load: _parts(load) for load in loads}
        kinds = list(dict.fromkeys(kind for some in parts.values() for kind in some))
        differing = [kind for kind in kinds if len({some.get(kind) for some in parts.values()}) > 1]
        short = {
            load: ", ".join(some[kind] for kind in differing if some.get(kind)) or "as usual"
            for load, some in parts.items()
        }
        first = next(iter(parts.values()), {})
        usual = _parts(Load(churn=Churn(0)))
        common = [
            f"fill {first[kind]}" if kind == "fill" else first[kind]
            for kind in kinds
            if kind not in differing and first[kind] != usual.get(kind)
        ]
        labels = {setting: setting.label.split(", ") for setting in settings}
        alike = [word for word in next(iter(labels.values()), [])[1:] if all(word in some for some in labels.values())]
        return cls(
            heading=differing[0] if len(differing) == 1 else "load",
            short=short if differing else {},
            common=", ".join(filter(None, common)),
            setting={
                setting: ", ".join(word for word in some if word not in alike) for setting, some in labels.items()
            },
            setting_common=", ".join(alike),
        )

    def at(self, load: Load) -> str:
        """Where something was measured, for a sentence: ` at fill 80%`; nothing where there is but one load."""
        if load not in self.short:
            return ""
        return f" at {'fill ' if self.heading == 'fill' else ''}{self.short[load]}"


def _parts(load: Load) -> dict[str, str]:
    churn = load.churn
    rate = "" if churn is None else "at full speed" if churn.rate is None else f"at {per_second(churn.rate)}"
    parts = {
        "protocol": load.protocol.upper(),
        "fill": "" if load.fill is None else format_percent(load.fill),
        "connections": "" if load.connections is None else f"n={load.connections}",
        "concurrency": f"{load.concurrency} client{'s' if load.concurrency > 1 else ''}",
    }
    if churn:
        parts |= {"churn": f"churn {churn.replacements}", "close": f"by {churn.close}", "rate": rate}
    return parts
