"""What is known of a run before it starts."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """A run's id, its configuration as plain dictionaries, and its cost in FLOPs, counted as the papers do.

    tokens: training tokens of all epochs. flops: of all training; like tokens, None where the size of the data is
    unknown. flops_test: of one minibatch in evaluation. The ratios are to the same model when dense. data_sha256: of
    data that were read to know their sizes.
    """

    run_id: str
    config: dict[str, Any]
    tokens: int | None
    flops: float | None
    flops_test: float
    flops_train_ratio: float
    flops_test_ratio: float
    data_sha256: str | None = None
