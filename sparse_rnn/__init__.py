"""Reference framework for research on sparse recurrent networks.

`sparsify` makes a module of your own sparse, and keeps it so while you train it: see docs/your-own-network.md. The
commands, such as `python -m sparse_rnn.train`, run the experiments of the papers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_rnn.backends.own_network import sparsify as sparsify
    from sparse_rnn.core.declarations import Gates as Gates
    from sparse_rnn.core.errors import ConfigError as ConfigError
    from sparse_rnn.core.errors import Diverged as Diverged
    from sparse_rnn.core.registry import register as register
    from sparse_rnn.sparsity.method import SparsifierConfig as SparsifierConfig
    from sparse_rnn.sparsity.rules.growth import GrowthRule as GrowthRule
    from sparse_rnn.sparsity.sparsifier import Clock as Clock
    from sparse_rnn.sparsity.sparsifier import UpdateReport as UpdateReport
    from sparse_rnn.sparsity.step_sparsifier import StepSparsifier as StepSparsifier

__version__ = "0.2.0"

_HOMES = {
    "Clock": "sparsity.sparsifier",
    "ConfigError": "core.errors",
    "Diverged": "core.errors",
    "Gates": "core.declarations",
    "GrowthRule": "sparsity.rules.growth",
    "SparsifierConfig": "sparsity.method",
    "StepSparsifier": "sparsity.step_sparsifier",
    "UpdateReport": "sparsity.sparsifier",
    "register": "core.registry",
    "sparsify": "backends.own_network",
}
__all__ = [
    "Clock",
    "ConfigError",
    "Diverged",
    "Gates",
    "GrowthRule",
    "SparsifierConfig",
    "StepSparsifier",
    "UpdateReport",
    "__version__",
    "register",
    "sparsify",
]


def __getattr__(name: str) -> Any:
    """Import what is public on first use: a command's --help must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
