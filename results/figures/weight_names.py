"""The names of recurrent weights, as short as the papers have them."""

import re
from collections.abc import Iterable, Mapping

KINDS: Mapping[str, str] = {  # what the name of a weight holds, and what the papers call it
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
    """By layer, and in a layer first what multiplies its input. Logs keep no order of keys."""
    return sorted(
        set(weights), key=lambda name: ([int(n) for n in NUMBER.findall(name)], kind(name) not in INPUT, name)
    )


def short_names(weights: Iterable[str]) -> dict[str, str]:
    """ih1, hh1, ih2 ... by layer, W and R1, R2 ... of an RHN; a weight of no such kind keeps its name."""
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
    """`ih` or `hh` (W, R in an RHN); empty for what is no recurrent weight of a known form."""
    return next((short for part, short in KINDS.items() if part in weight), "")


def input_weights(weights: Iterable[str]) -> list[str]:
    """Those that multiply a layer's input, by layer."""
    return [weight for weight in in_order(weights) if kind(weight) in INPUT]
