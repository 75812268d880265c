"""The header says which settings an optimizer has, whatever is known by its name."""

import pytest
from run_helpers import composed

from sparse_rnn.training.announcement import optimizer_settings

MINE = ["recipe=none", "training.epochs=1", "sparsifier.sparsity=0.5", "sparsifier.removal_rate=0.5"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["optimizer=adam"],
            "Optimizer adam (recipe stacked_lstm_adam): lr 0.001, weight_decay 1.2e-06, plateau_factor 0.5, "
            "plateau_patience 2, ema 0, beta1 0, beta2 0.999, epsilon 1e-09, warmup 0, cosine_factor 1.",
        ),
        (
            ["optimizer=adam", *MINE],
            "Optimizer adam (recipe none): lr 0.001, weight_decay 0, plateau_factor 1, plateau_patience 2, ema 0, "
            "beta1 0.9, beta2 0.999, epsilon 1e-08, warmup 0, cosine_factor 1.",
        ),
        (
            ["optimizer=adamw", *MINE],
            "Optimizer adamw (recipe none): lr 0.001, weight_decay 0.01, plateau_factor 1, plateau_patience 2, ema 0, "
            "beta1 0.9, beta2 0.999, epsilon 1e-08, warmup 0, cosine_factor 1, decay_vectors True.",
        ),
        (
            ["optimizer=momentum_sgd", "optimizer.lr=1", *MINE],
            "Optimizer momentum_sgd (recipe none): lr 1, weight_decay 0, plateau_factor 1, plateau_patience 1, ema 0, "
            "momentum 0.9.",
        ),
        (
            ["model=on_lstm"],
            "Optimizer snt_asgd (recipe on_lstm_snt_asgd): lr 30, weight_decay 1.2e-06, nonmono 5, average_by 1, "
            "restarts [500, 1000].",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_setting_is_said(overrides: list[str], sentence: str) -> None:
    assert optimizer_settings(composed(overrides)) == sentence
