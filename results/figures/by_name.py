"""Every figure by its name."""

from collections.abc import Callable

from sparse_rnn.core.errors import ConfigError

from ..gathering import Gathered
from . import curves, distance_curves, gate_sparsity, large_weights, learning_curves, topology_update, training_cost
from .style import Drawing, styled

DECLARED: dict[str, Callable[[], Drawing]] = {
    "figure1": topology_update.draw_method,
    "figure2": training_cost.draw_costs,
}
FROM_RUNS: dict[str, Callable[[Gathered], Drawing]] = {
    "figure3": large_weights.draw,
    "figure4": distance_curves.draw,
    "figure5": curves.draw,
    "figure6": curves.draw,
    "figure7": curves.draw,
    "figure8": distance_curves.draw,
    "figure9": distance_curves.draw,
    "figure10": gate_sparsity.draw,
    "st_figure2": curves.draw,
    "st_figure3": curves.draw,
}


def draw(name: str, gathered: Gathered | None = None) -> Drawing:
    """A figure of the papers, or any other, which is drawn as curves; so is a sweep.

    gathered: its runs and their logs; Figures 1 and 2 need none. Raises ConfigError if they are missing.
    """
    with styled():
        if name in DECLARED:
            return DECLARED[name]()
        if gathered is None:
            raise ConfigError(f"{name} is drawn from runs: pass what `gather` returns for it.")
        if gathered.training and gathered.spec.blocks[0].x is None:
            return learning_curves.draw(gathered)
        return FROM_RUNS.get(gathered.spec.name, curves.draw)(gathered)
