"""The settings and loads of a sweep by what tells them apart: `80%` where only the fill differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connbench.model import Load, StrategySpec
from connbench.model.load import LABEL_ORDER, LoadField, Sweep


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
        told = [field for field in LABEL_ORDER if any(_applies(field, load) for load in loads)]
        differing = [field for field in told if len({field.of(load) for load in loads}) > 1]
        short = {load: ", ".join(filter(None, (_cell(field, load) for field in differing))) for load in loads}
        common = [
            field.label(field.of(loads[0])) for field in told if field not in differing and field.is_told(loads[0])
        ]
        labels = {setting: setting.label.split(", ") for setting in settings}
        alike = [word for word in next(iter(labels.values()), [])[1:] if all(word in some for some in labels.values())]
        return cls(
            heading=differing[0].name.replace("_", " ") if len(differing) == 1 else "load",
            short={load: text or "as usual" for load, text in short.items()} if differing else {},
            common=", ".join(common),
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


def _applies(field: LoadField, load: Load) -> bool:
    """Whether a load has the field: a field of the churn needs one, and a number of connections has to be given."""
    if field.is_of_churn:
        return load.churn is not None
    return field.sweep is not Sweep.SETTING and field.of(load) is not None


def _cell(field: LoadField, load: Load) -> str:
    return (field.cell or field.label)(field.of(load)) if _applies(field, load) else ""
