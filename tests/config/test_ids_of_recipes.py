"""Every recipe keeps the run id and the configuration that it has always had: golden/run_ids.json has both.

A new default, for what is named as everybody knows it, must not reach the papers' runs.
"""

import hashlib
import json
from pathlib import Path

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import NEUTRAL, as_dict, identity, run_id

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "run_ids.json").read_text())


@pytest.mark.parametrize("overrides", GOLDEN)
def test_id_and_configuration_are_as_they_were(overrides: str) -> None:
    run = compose_run(overrides.split())
    config = json.dumps(identity(as_dict(run)), sort_keys=True)
    assert [run_id(run), hashlib.sha256(config.encode()).hexdigest()[:16]] == GOLDEN[overrides]


def test_settings_that_are_no_recipe_s_make_other_runs() -> None:
    """The papers' Adam written out is the run that it was; torch's is another."""
    own = ["recipe=none", "training.epochs=1", "sparsifier.sparsity=0.5", "sparsifier.removal_rate=0.5"]
    papers = ["beta1=0", "epsilon=1e-9", "weight_decay=1.2e-6", "plateau_factor=0.5", "plateau_patience=2"]
    adam = ["optimizer=adam", "optimizer.lr=0.001", *own]
    ids = {run_id(compose_run([*adam, *more])) for more in ([], [f"optimizer.{setting}" for setting in papers])}
    assert ids == {"stacked_lstm-ptb-selfish-s1-65cdaae2", "stacked_lstm-ptb-selfish-s1-06530a70"}


def test_younger_settings_are_left_out_at_their_defaults() -> None:
    """Else the records of runs that never heard of them would be those of others."""
    plain = as_dict(compose_run(["sparsifier=selfish"]))["sparsifier"]
    own = {key.removeprefix("sparsifier."): value for key, value in NEUTRAL.items() if key.startswith("sparsifier.")}
    assert {key: plain[key] for key in own} == own
    assert not own.keys() & identity(as_dict(compose_run([])))["sparsifier"].keys()
    with_noise = identity(as_dict(compose_run(["sparsifier.noise=0.5"])))["sparsifier"]
    assert with_noise["noise"] == 0.5
    assert "l1" not in with_noise
