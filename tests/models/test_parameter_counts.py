"""Sizes on the meta device against facts A.1 and A.2; the integers are worked out by hand."""

import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig


def count(config) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in config.build(10_000).parameters())


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        # embedding + decoder + its bias + 2 layers of 8 h^2 weights and 8 h biases
        (1500, 15_000_000 + 15_000_000 + 10_000 + 2 * (18_000_000 + 12_000)),  # 66,034,000
        (700, 7_000_000 + 7_000_000 + 10_000 + 2 * (3_920_000 + 5_600)),  # 21.861 M
        (490, 4_900_000 + 4_900_000 + 10_000 + 2 * (1_920_800 + 3_920)),  # 13.659 M
    ],
)
def test_stacked_lstm(hidden, expected):
    assert count(StackedLSTMConfig(hidden=hidden)) == expected


def test_the_large_lstm_has_66_million_weights():
    assert count(StackedLSTMConfig()) == 66_034_000


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        # tied embedding + decoder's bias + W and ten R_k of 2 h^2 weights and 2 h biases
        (830, 8_300_000 + 10_000 + 11 * (1_377_800 + 1_660)),  # 23,484,060
        (517, 5_170_000 + 10_000 + 11 * (534_578 + 1_034)),  # 11.07 M
    ],
)
def test_rhn(hidden, expected):
    assert count(RHNConfig(hidden=hidden)) == expected


def test_the_rhn_of_the_paper_has_23_5_million_parameters():
    assert count(RHNConfig()) == 23_484_060


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (StackedLSTMConfig, {"hidden": 0}),
        (StackedLSTMConfig, {"layers": 0}),
        (StackedLSTMConfig, {"dropout": 1.0}),
        (RHNConfig, {"depth": 0}),
        (RHNConfig, {"dropout_hidden": -0.1}),
        (RHNConfig, {"dropout_word": 1.5}),
    ],
)
def test_sizes_that_cannot_be_are_refused(config, settings):
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"^model\.{key}=.*\.$"):
        config(**settings)
