"""Every figure by its name."""

from collections.abc import Callable
from importlib import import_module

from results.asked import Asked
from results.style import Drawing, styled
from sparse_rnn.registry import ConfigError

DECLARED = {"figure1": ("method_figure", "draw_method"), "figure2": ("cost_figure", "draw_costs")}
ASKED = {
    "figure3": "weight_figures",
    "figure4": "distance_figures",
    "figure5": "curves",
    "figure6": "curves",
    "figure7": "curves",
    "figure8": "distance_figures",
    "figure9": "distance_figures",
    "figure10": "gates",
    "st_figure2": "curves",
    "st_figure3": "curves",
}
NAMES = (*DECLARED, *ASKED)
OWN = "curves"  # what draws a figure that the papers do not have


def draw(name: str, asked: Asked | None = None) -> Drawing:
    """A figure of the papers, or any other of conf/figure, from what was asked of the logs; figures 1 and 2 need none.

    Raises ConfigError if there is nothing to draw it from.
    """
    with styled():
        if name in DECLARED:
            module, function = DECLARED[name]
            declared: Callable[[], Drawing] = getattr(import_module(f"results.{module}"), function)
            return declared()
        if asked is None:
            raise ConfigError(f"{name} is drawn from runs: give what was asked of the logs.")
        from_runs: Callable[[Asked], Drawing] = import_module(f"results.{ASKED.get(name, OWN)}").draw
        return from_runs(asked)
