"""Every figure by its name."""

from collections.abc import Callable

from results.figures import cost, curves, distance_curves, gates, large_weights, method
from results.figures.style import Drawing, styled
from results.gathering import Asked
from sparse_rnn.core.errors import ConfigError

DECLARED: dict[str, Callable[[], Drawing]] = {"figure1": method.draw_method, "figure2": cost.draw_costs}
ASKED: dict[str, Callable[[Asked], Drawing]] = {
    "figure3": large_weights.draw,
    "figure4": distance_curves.draw,
    "figure5": curves.draw,
    "figure6": curves.draw,
    "figure7": curves.draw,
    "figure8": distance_curves.draw,
    "figure9": distance_curves.draw,
    "figure10": gates.draw,
    "st_figure2": curves.draw,
    "st_figure3": curves.draw,
}
NAMES = (*DECLARED, *ASKED)


def draw(name: str, asked: Asked | None = None) -> Drawing:
    """A figure of the papers, or any other of conf/figure, from what was asked of the logs; figures 1 and 2 need none.

    Raises ConfigError if there is nothing to draw it from.
    """
    with styled():
        if name in DECLARED:
            return DECLARED[name]()
        if asked is None:
            raise ConfigError(f"{name} is drawn from runs: give what was asked of the logs.")
        return ASKED.get(name, curves.draw)(asked)
