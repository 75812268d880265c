"""Curves in a terminal, drawn with characters: braille, of 2 x 4 dots each, or stars where that cannot be shown.

plotext would do it as well, but what is called how changes with its versions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from rich.text import Text

STYLES = ("blue", "yellow", "green", "magenta", "cyan", "red", "bright_blue", "bright_yellow")
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
DECADE = 10.0  # values that span more are on a logarithmic scale
MARGIN = 9  # characters for the numbers on the left

Curve = Sequence[tuple[float, float]]


@dataclass
class Canvas:
    """Characters of a grid, each with the dots that are set in it and the style of the curve that set the last one."""

    width: int
    height: int
    braille: bool = True
    cells: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)

    @property
    def dots(self) -> tuple[int, int]:
        """How many dots there are across and down."""
        return (2 * self.width, 4 * self.height) if self.braille else (self.width, self.height)

    def line(self, begin: tuple[int, int], end: tuple[int, int], style: str) -> None:
        """Set the dots from one to another, both given as dots from the left and from the top."""
        steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
        for step in range(steps + 1):
            x, y = (round(a + (b - a) * step / steps) for a, b in zip(begin, end, strict=True))
            place, dot = ((x // 2, y // 4), DOTS[y % 4][x % 2]) if self.braille else ((x, y), 1)
            self.cells[place] = (self.cells.get(place, (0, ""))[0] | dot, style)

    def row(self, y: int) -> Text:
        """A line of characters."""
        text = Text()
        for x in range(self.width):
            dots, style = self.cells.get((x, y), (0, ""))
            text.append((chr(BRAILLE + dots) if self.braille else "*") if dots else " ", style)
        return text


def curves(
    title: str, named: Mapping[str, Curve], *, width: int, height: int, braille: bool = True, unit: str = "epoch"
) -> Text:
    """Curves by name over one axis, with a legend; points that are no finite numbers are left out.

    width, height: of all of it, in characters. unit: of the axis.
    """
    finite = {name: [(x, y) for x, y in curve if math.isfinite(y)] for name, curve in named.items()}
    points = [point for curve in finite.values() for point in curve]
    text = Text(f"{title}\n", "bold")
    if not points:
        return text.append("  nothing to draw yet\n", "dim")
    ys = [y for _, y in points]
    logarithmic = min(ys) > 0 and max(ys) > DECADE * min(ys)
    scaled = {name: [(x, math.log(y) if logarithmic else y) for x, y in curve] for name, curve in finite.items()}
    canvas = Canvas(max(1, width - MARGIN), max(2, height - 3), braille)
    _draw(canvas, scaled)
    for y in range(canvas.height):
        label = max(ys) if y == 0 else min(ys) if y == canvas.height - 1 else None
        text.append(f"{'' if label is None else format(label, '.4g'):>{MARGIN - 2}} |", "dim").append_text(
            canvas.row(y)
        ).append("\n")
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    axis = f"{first:,.0f}"
    text.append(f"{'':>{MARGIN}}{axis}{f'{unit} {last:,.0f}':>{max(0, canvas.width - len(axis))}}\n", "dim")
    return text.append_text(_legend(named)).append("\n")


def _draw(canvas: Canvas, scaled: Mapping[str, Curve]) -> None:
    xs, ys = zip(*(point for curve in scaled.values() for point in curve), strict=True)
    across, down = canvas.dots

    def dot(x: float, y: float) -> tuple[int, int]:
        return (
            round((x - min(xs)) / ((max(xs) - min(xs)) or 1) * (across - 1)),
            round((max(ys) - y) / ((max(ys) - min(ys)) or 1) * (down - 1)),
        )

    for style, curve in zip(cycle(STYLES), scaled.values(), strict=False):
        places = [dot(*point) for point in curve]
        for begin, end in zip(places, places[1:] or places, strict=False):
            canvas.line(begin, end, style)


def _legend(named: Mapping[str, Curve]) -> Text:
    text = Text(" " * MARGIN)
    for style, (name, curve) in zip(cycle(STYLES), named.items(), strict=False):
        last = f" {curve[-1][1]:.4g}" if curve else ""
        text.append(f"{name}{last}  ", style)
    return text
