"""What runs are judged by: how each metric is called and shown, and which way is better. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGE = 1e6  # from which a number is shown by its magnitude


@dataclass(frozen=True)
class Metric:
    """A metric by its `name` in rows and results, as in `test/perplexity`.

    words: how texts call it. decimals: with which it is shown. is_share: whether it is a share in [0, 1], of which more
    is better and which is shown in per cent; of all others less is better.
    """

    name: str
    words: str
    decimals: int = 2
    is_share: bool = False

    def shown(self, value: float) -> str:
        """A value as lines of text have it."""
        if self.is_share:
            return f"{value:.2%}"
        return f"{value:.{self.decimals}f}" if value < LARGE else f"{value:.2g}"


ACCURACY = Metric("accuracy", "accuracy", is_share=True)
BITS = Metric("bits_per_character", "bits per character", decimals=3)
MSE = Metric("mse", "mean squared error", decimals=5)
PERPLEXITY = Metric("perplexity", "perplexity")
METRICS = (ACCURACY, BITS, MSE, PERPLEXITY)  # a run that has several is judged by the first of them
LOSS = Metric("loss", "loss", decimals=4)


def metric_of(row: Mapping[str, Any], prefix: str) -> Metric:
    """What a run is judged by, from a row with its results under `prefix`, such as `test/`.

    The loss, where nothing else is there, as in training on the copying problem; perplexity in a row without results.
    """
    return next((metric for metric in (*METRICS, LOSS) if f"{prefix}{metric.name}" in row), PERPLEXITY)


def metric_named(key: str) -> Metric | None:
    """The metric of a key such as `test/accuracy`, or of `test accuracy`, as figures write it; None for other keys."""
    last = key.replace(" ", "/").rpartition("/")[2]
    return next((metric for metric in (*METRICS, LOSS) if metric.name == last), None)


def is_share(key: str) -> bool:
    """Whether the values of a key, see `metric_named`, are shares in [0, 1], of which more is better."""
    metric = metric_named(key)
    return metric is not None and metric.is_share
