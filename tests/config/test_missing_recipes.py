"""What is said where a model has no recipe for an optimizer, and that following it works."""

import re
from typing import Any

import pytest
from hydra.errors import MissingConfigException

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core import registry
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.hydra_errors import explain
from sparse_rnn.core.registry import lookup

OWN = (
    "recipe=none optimizer.lr=LR training.epochs=EPOCHS sparsifier.sparsity=SPARSITY sparsifier.removal_rate=RATE with "
    "numbers of your own (for sparsifier=dense no sparsity)."
)
WITHOUT_RATE = OWN.replace("optimizer.lr=LR ", "")
SENTENCES = {
    "optimizer=sgd": (
        "recipe=stacked_lstm_sgd does not exist, and for model=stacked_lstm there are only stacked_lstm_adam, "
        "stacked_lstm_momentum_sgd, stacked_lstm_nt_asgd, stacked_lstm_snt_asgd, iss_stacked_lstm, rigl_original, "
        "st_rnn_lstm: write optimizer=adam, or optimizer=momentum_sgd, or optimizer=nt_asgd, or optimizer=snt_asgd, or "
        f"recipe=iss_stacked_lstm, or recipe=rigl_original, or recipe=st_rnn_lstm, or {OWN}"
    ),
    "model=on_lstm optimizer=adamw": (
        "recipe=on_lstm_adamw does not exist, and for model=on_lstm there are only on_lstm_adam, on_lstm_momentum_sgd, "
        "on_lstm_nt_asgd, on_lstm_snt_asgd: write optimizer=adam, or optimizer=momentum_sgd, or optimizer=nt_asgd, or "
        f"optimizer=snt_asgd, or {WITHOUT_RATE}"
    ),
    "model=lstm_classifier optimizer=snt_asgd": (
        "recipe=lstm_classifier_snt_asgd does not exist, and for model=lstm_classifier there are only "
        f"lstm_classifier_adam: write optimizer=adam, or {OWN}"
    ),
}


@pytest.mark.parametrize("overrides", SENTENCES)
def test_the_recipes_that_exist_are_named(overrides: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose_run(overrides.split())
    assert str(raised.value) == SENTENCES[overrides]


@pytest.mark.parametrize("overrides", SENTENCES)
def test_what_is_said_can_be_written(overrides: str) -> None:
    """Each of the ways, with numbers in place of the words."""
    for way in ways(SENTENCES[overrides]):
        given = [o for o in overrides.split() if way.partition("=")[0] != o.partition("=")[0]]
        if way.startswith("recipe=") and "none" not in way:  # it chooses model and optimizer itself
            given = []
        assert compose_run([*given, *way.split()]).recipe.name


def ways(sentence: str) -> list[str]:
    written = sentence.partition(": write ")[2].partition(" with numbers")[0]
    return [re.sub(r"=[A-Z]+", "=0.5", way.replace("EPOCHS", "3")) for way in written.split(", or ")]


def test_a_model_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any recipe, and with one for another optimizer than the default."""
    monkeypatch.setitem(registry._REGISTRY["model"], "mine", lookup("model", "rhn"))

    def said(*options: str) -> str:
        missing: Any = MissingConfigException("", "recipe/mine_snt_asgd", list(options))
        return explain(missing)

    assert said("none", "rhn_adam") == (
        f"recipe=mine_snt_asgd does not exist, and for model=mine there is none: write {OWN}"
    )
    assert said("none", "mine_adam") == (
        "recipe=mine_snt_asgd does not exist, and for model=mine there are only mine_adam: write optimizer=adam, or "
        f"{OWN}"
    )


def test_every_recipe_says_what_is_not_as_everybody_knows_it() -> None:
    """The papers' Adam and momentum SGD are in their recipes alone: no default brings a part of them."""
    for path in sorted((config_dir() / "recipe").glob("*_adam.yaml")):
        text = path.read_text()
        for key in ("beta1", "epsilon", "weight_decay", "plateau_factor"):
            assert f"{key}:" in text, path.name
