"""What a data set says when it cannot be loaded."""

import pytest

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.base import DatasetConfig


def refusal(dataset: DatasetConfig) -> str:
    """The error's text, which must be one sentence."""
    with pytest.raises(ConfigError) as caught:
        dataset.load()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence
