"""What a run says before its first step."""

from sparse_rnn.config.compose import compose_run
from sparse_rnn.training.announcement import budget_changes

WITHOUT_RECIPE = ["recipe=none", "optimizer=adam", "optimizer.lr=0.001", "sparsifier.sparsity=0.5"]


def test_a_budget_says_what_it_changed() -> None:
    overrides = ["dataset=pydoc", "budget=smoke"]
    assert "training.epochs 100 -> 4" in budget_changes(compose_run(overrides), overrides)


def test_without_a_recipe_there_is_nothing_to_compare_a_budget_with() -> None:
    """Only the budget says how long to train: at the paper's size the same command is incomplete."""
    overrides = ["dataset=pydoc", "budget=smoke", *WITHOUT_RECIPE, "sparsifier.removal_rate=0.5"]
    assert budget_changes(compose_run(overrides), overrides) == []
