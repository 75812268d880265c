"""What `sparsify` refuses, in one sentence."""

import pytest
import torch
from sparsify_loop import STEPS, Loop, make

from sparse_rnn import sparsify
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD


def test_leaving_out_before_step_is_noticed():
    loop = Loop()
    loop.run(2)
    with pytest.raises(RuntimeError, match="before_step"):
        loop.sparsifier.after_step()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "selfihs"}, ["method=selfihs", "selfish"]),
        ({"method": "dense"}, ["method=dense", "no topology"]),
        ({"method": "iss"}, ["method=iss", "composition"]),
        ({"method": "rigl", "growth": "gradeint"}, ["gradeint", "gradient"]),
        ({"method": "static_er", "growth": "random"}, ["static_er", "growth=random"]),
        ({"sparsity": 1.0}, ["sparsity=1.0", "[0, 1)"]),
        ({"removal_rate": -0.1}, ["removal_rate=-0.1"]),
        ({"steps": 0}, ["steps=0"]),
        ({"steps": 8}, ["update_interval=8", "steps=8"]),
        ({"update_interval": 0}, ["update_interval=0"]),
        ({"scop": "cell"}, ["scop", "scope"]),
        ({"scope": "layer"}, ["scope=layer"]),
        ({"backend": "dense"}, ["backend=dense", "auto, masked, sparse"]),
        ({"keep_dense": ["nothing.*"]}, ["nothing.*", "head.weight"]),
        ({"gates": {"encoder.weight": {"all": slice(0, 1)}}}, ["encoder.weight", "not a parameter"]),
    ],
)
def test_mistakes_are_one_sentence(settings, words):
    with pytest.raises(ConfigError) as caught:
        Loop(**settings)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("settings", [{"scope": "gate"}, {"redistribution": "gate_magnitude"}])
def test_what_works_on_gates_is_refused_without_any(settings):
    with pytest.raises(ConfigError, match="needs gates"):
        Loop("transformer", **settings)


def test_an_optimizer_of_another_module_is_refused():
    optimizer = torch.optim.SGD(make("gru").parameters(), 0.1)
    with pytest.raises(ConfigError, match=r"does not train embedding\.weight, .*head\.weight: .*keep_dense\.$"):
        sparsify(make("gru"), optimizer, sparsity=0.5, steps=STEPS, update_interval=5)


@pytest.mark.parametrize("frozen", ["left out", "without gradient"])
def test_frozen_weights_are_refused_unless_kept_dense(frozen):
    """Removed weights would grow elsewhere and never be trained."""
    model = make("gru")
    if frozen == "without gradient":
        model.embedding.requires_grad_(False)
    trained = [p for name, p in model.named_parameters() if frozen != "left out" or name != "embedding.weight"]
    optimizer = AveragedSGD(trained, 0.1)
    settings = {"sparsity": 0.5, "steps": STEPS, "update_interval": 5}
    with pytest.raises(ConfigError, match=r"^The optimizer does not train embedding\.weight: "):
        sparsify(model, optimizer, **settings)
    sparsifier = sparsify(model, optimizer, keep_dense=["embedding.*"], **settings)
    assert "embedding.weight" not in {weight.name for weight in sparsifier.topology}
