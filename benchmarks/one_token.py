"""One token of inference on the kernels against dense torch, where its weights happen to lie well in memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.masked_training import VOCABULARY, Plain
from benchmarks.row import Row, least_seconds, ratio_of_times
from benchmarks.sparse_training import SparseStep

BARS = {0.67: 0.36, 0.90: 0.13}
BYTES_PER_ENTRY = 5 / 4  # of a sparse weight, against a dense one: four of the value, one of the column
COPIES, TOKENS = 4, 20


def rows() -> Iterator[Row]:
    """The ratios at two sparsities."""
    torch.manual_seed(1)
    for sparsity, bar in BARS.items():
        limit = (1 - sparsity) * BYTES_PER_ENTRY
        yield Row(
            f"one token of inference at sparsity {sparsity:.2f} / dense", ratio_of_times(*readers(sparsity)), bar, limit
        )


def readers(sparsity: float) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions that read tokens, on the kernels and with dense torch.

    Dense torch takes up to three times as long in some copies of the weights as in others: this is the fastest of four.
    """
    sparse = SparseStep(sparsity).model.eval()
    token, state = torch.randint(VOCABULARY, (1, 1)), sparse.initial_hidden(1)

    def read_sparse() -> Tensor:
        output, _ = sparse(token, state)
        logits: Tensor = sparse.decoder(output)
        return logits

    def dense() -> Callable[[], Tensor]:
        model = Plain().eval()

        def read() -> Tensor:
            output, _ = model.lstm(model.embedding(token), state)
            logits: Tensor = model.decoder(output)
            return logits

        return read

    copies = [_several(dense()) for _ in range(COPIES)]
    times = least_seconds(copies, 3)
    return _several(read_sparse), copies[times.index(min(times))]


def _several(read: Callable[[], Tensor]) -> Callable[[], None]:
    @torch.no_grad()
    def read_several() -> None:
        for _ in range(TOKENS):
            read()

    return read_several
