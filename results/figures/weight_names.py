"""The names that the papers use for recurrent weights: ih1, hh1; W and R1 in an RHN."""

import re
from collections.abc import Iterable, Mapping

KINDS: Mapping[str, str] = {  # part of a parameter's name, and what the papers call such a weight
    "highway.input": "W",
    "highway.recurrent": "R",
    "weight_ih": "ih",
    "weight_hh": "hh",
    ".input.": "ih",
    ".recurrent.": "hh",
}

INPUT = ("ih", "W")
NUMBER = re.compile(r"\d+")


def in_order(weights: Iterable[str]) -> list[str]:
    """Weights by layer, and within a layer the one that multiplies its input first. Logs lose the order of keys."""
    return sorted(
        set(weights), key=lambda name: ([int(n) for n in NUMBER.findall(name)], kind(name) not in INPUT, name)
    )


def short_names(weights: Iterable[str]) -> dict[str, str]:
    """ih1, hh1, ih2, ... by layer; W, R1, R2, ... in an RHN. Other weights keep their names."""
    names = in_order(weights)
    kinds = {name: kind(name) for name in names}
    count: dict[str, int] = {}
    short = {}
    for name in names:
        of = kinds[name]
        count[of] = count.get(of, 0) + 1
        short[name] = name if not of else of if of == "W" else f"{of}{count[of]}"
    return short


def kind(weight: str) -> str:
    """`ih` or `hh` (W, R in an RHN); empty if the name is not that of a known recurrent weight."""
    return next((short for part, short in KINDS.items() if part in weight), "")


def input_weights(weights: Iterable[str]) -> list[str]:
    """The weights that multiply a layer's input, by layer."""
    return [weight for weight in in_order(weights) if kind(weight) in INPUT]
