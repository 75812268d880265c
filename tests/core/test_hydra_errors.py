"""What Hydra and OmegaConf raise for a configuration, each with its sentence.

Their errors are recognized by their English: a new version of Hydra may word them differently, which shows here.
"""

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from sparse_rnn.config.compose import register_schemas
from sparse_rnn.core.command_line import guard
from sparse_rnn.core.hydra_errors import explain
from sparse_rnn.core.hydra_files import compose_file

NONE = ["recipe=none"]
NOT_SET = "is not set: give it a value, or choose a recipe that does."
ARE_GROUPS = (
    "model, dataset, sparsifier, growth, optimizer, recipe, protocol, budget, logger are config groups: each needs one "
    "name, as in model=rhn."
)


def compose(overrides):
    """Compose and read every value, as training does; the schema's own checks of values run here too."""
    register_schemas()
    OmegaConf.to_object(compose_file("config", overrides))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        pytest.param(["model=rnh"], "model=rnh does not exist (did you mean rhn?).", id="an unknown option"),
        pytest.param(
            ["recipe=iss_rnh"],
            "recipe=iss_rnh does not exist (did you mean iss_rhn?); recipe=none goes without, by settings of your own.",
            id="a recipe that does not exist",
        ),
        pytest.param(NONE, f"optimizer.lr {NOT_SET}", id="a value that is missing"),
        pytest.param(["training.epochs=???"], f"training.epochs {NOT_SET}", id="a value that is taken away"),
        pytest.param(
            [*NONE, "optimizer.lr=1", "training.epochs=1"],
            f"sparsifier.sparsity {NOT_SET}",
            id="a value that refers to a missing one",
        ),
        pytest.param(["model=[rhn]"], ARE_GROUPS, id="a group that is given a list"),
        pytest.param(
            ["recipe=iss_rhn", "sparsifier=dense"],
            "recipe=iss_rhn does not go with the other choices: key 'group_lasso' not in 'SparsifierConfig'.",
            id="an option for another sparsifier",
        ),
        pytest.param(
            ["size=reduced/rhn"],
            "size=reduced/rhn does not go with the other choices: key 'depth' not in model=stacked_lstm.",
            id="an option for another model",
        ),
        pytest.param(
            ["recipe=lstm_classifier_adam"],
            "recipe=lstm_classifier_adam does not go with the other choices: key 'beta1' not in optimizer=snt_asgd.",
            id="an option for another optimizer",
        ),
        pytest.param(
            ["seed=1,2"], "Ambiguous value for argument 'seed=1,2' (several values need -m).", id="a sweep without -m"
        ),
        pytest.param(
            ["logger=wandb,tensorboard"],
            "Ambiguous value for argument 'logger=wandb,tensorboard' (several values need -m; several loggers of "
            "one run are logger=[wandb,tensorboard]).",
            id="several loggers without brackets",
        ),
        pytest.param(
            ["seed"],
            "The override 'seed' cannot be read: write key=value, quoted if the value is unusual.",
            id="an override without a value",
        ),
        pytest.param(
            ["seed='a"],
            """The override "seed='a" cannot be read: write key=value, quoted if the value is unusual.""",
            id="a quote that does not end",
        ),
        pytest.param(
            ["model.hidden=many"],
            "model.hidden: Value 'many' of type 'str' could not be converted to Integer.",
            id="a value of another type",
        ),
        pytest.param(["model.hidden=null"], "model.hidden: field 'model.hidden' is not Optional.", id="no value"),
        pytest.param(
            ["model.hiden=3"],
            "model.hiden is not a key of the configuration (did you mean hidden?).",
            id="a key that does not exist",
        ),
        pytest.param(
            ["modle=rhn"],
            "modle is not a key of the configuration (did you mean model?).",
            id="a group that does not exist",
        ),
        pytest.param(["seed=${nowhere}"], "Interpolation key 'nowhere' not found.", id="any other of OmegaConf"),
        pytest.param(["model@foo=rhn"], "Could not override 'model@foo'.", id="any other of Hydra"),
    ],
)
def test_every_error_is_one_sentence(overrides, sentence):
    with pytest.raises((HydraException, OmegaConfBaseException)) as raised:
        compose(overrides)
    assert explain(raised.value) == sentence


def test_a_plain_value_that_refers_to_a_missing_one():
    """Fields with a type raise InterpolationValidationError instead."""
    with pytest.raises(InterpolationToMissingValueError) as raised:
        OmegaConf.create({"optimizer": {"lr": "???"}, "rate": "${optimizer.lr}"}).rate  # noqa: B018
    assert explain(raised.value) == f"rate {NOT_SET}"


def test_commands_print_that_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        guard(lambda: compose(["model=rnh"]))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: model=rnh does not exist (did you mean rhn?).\n"


def test_a_defect_keeps_its_traceback():
    def defect():
        raise KeyError("x")

    with pytest.raises(KeyError):
        guard(defect)
