"""The composer of many configurations gives what composing each alone gives."""

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.core.errors import ConfigError

COMBINATIONS = [
    [],
    ["seed=2"],
    ["seed=2", "init_seed=1"],
    ["sparsifier.sparsity=0.8", "model.hidden=700"],
    ["model=rhn", "sparsifier=gmp", "sparsifier.prune_end=0.5"],
    ["sparsifier=st_rnn", "protocol=official_code", "sparsifier.keep_dense=['a*','b']"],
    ["recipe=st_rnn_lstm", "snapshots=true"],
    ["dataset=text", "dataset.train='a b'", "dataset.valid=b", "dataset.test=c", "budget=smoke"],
    ["sparsifier=selfish", "growth=gradient", "sparsifier.update_interval=100"],
    ["++training.epochs=3"],
    ["model=rhn", "model=on_lstm"],
    ["sparsifier.sparsity=0.7", "++sparsifier.sparsity=0.5"],
]


def test_the_same_configurations_as_one_by_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b", "b", "c"):
        (tmp_path / name).write_text("two words\n" * 3)
    composer = Composer()
    for overrides in [*COMBINATIONS, *COMBINATIONS]:
        run = composer.compose(overrides)
        assert as_dict(run) == as_dict(compose_run(overrides))
        assert run_id(run) == run_id(compose_run(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["sparsifier=selfihs"],
        ["sparsifier.sparsty=0.5"],
        ["training.epochs=many"],
        ["training.epochs=0"],
        ["sparsifier=dense", "sparsifier.sparsity=0.5"],
        ["size=nonesuch"],
        ["sparsifier=[1"],
        ["seed=1,2"],
    ],
)
def test_the_same_errors_as_one_by_one(overrides):
    with pytest.raises(ConfigError) as together:
        Composer().compose(overrides)
    with pytest.raises(ConfigError) as alone:
        compose_run(overrides)
    assert str(together.value) == str(alone.value)
