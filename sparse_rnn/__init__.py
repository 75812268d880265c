"""Reference framework for research on sparse recurrent networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_rnn.sparsity.api import sparsify as sparsify

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `sparsify` on first use: a command's --help must not wait for torch."""
    if name == "sparsify":
        from sparse_rnn.sparsity.api import sparsify

        return sparsify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
