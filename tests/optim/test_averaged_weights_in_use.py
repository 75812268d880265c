"""The averages put in the weights' place for an evaluation, and saved in a checkpoint."""

import io

import pytest
import torch
from torch import nn
from toy_training import Toy

from sparse_rnn.optim.averaged_sgd import AveragedSGD


def test_before_the_trigger_and_right_after_it_the_raw_weights_are_evaluated():
    toy = Toy()
    toy.steps(2)
    for _ in range(2):
        assert not toy.optimizer.averaging
        assert torch.equal(toy.averages()[0], toy.weight)
        toy.optimizer.start_averaging()
    toy.steps(1)
    assert toy.optimizer.averaging
    assert torch.equal(toy.averages()[0], toy.weight)  # the average of one value
    toy.steps(1)
    assert not torch.equal(toy.averages()[0], toy.weight)


def test_the_raw_weights_come_back_bit_for_bit():
    toy = Toy()
    toy.optimizer.start_averaging()
    toy.steps(3)
    raw = toy.weight
    with toy.optimizer.averaged():
        assert not torch.equal(toy.weight, raw)
        toy.topology.mask_weights()
    assert torch.equal(toy.weight, raw)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_raw_weights_come_back_if_evaluation_fails(error):
    toy = Toy()
    toy.optimizer.start_averaging()
    toy.steps(3)
    raw = toy.weight

    def evaluate() -> None:
        with toy.optimizer.averaged():
            assert not torch.equal(toy.weight, raw)
            raise error

    with pytest.raises(error):
        evaluate()
    assert torch.equal(toy.weight, raw)
    assert toy.sparse_weight.parameter.requires_grad


def test_looking_at_the_averages_does_not_change_training():
    watched, plain = Toy(), Toy()
    for toy in (watched, plain):
        toy.optimizer.start_averaging()
        for _ in range(4):
            toy.steps(1)
            if toy is watched:
                toy.averages()
    assert torch.equal(watched.weight, plain.weight)
    assert torch.equal(watched.averages()[0], plain.averages()[0])


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("skip_first", [True, False])
@pytest.mark.parametrize("when", ["before the trigger", "at the trigger", "at an update", "later"])
def test_a_stored_state_resumes_bitwise_equally(when, sparse, skip_first):
    def begin(toy: Toy) -> None:
        toy.steps(2)
        if when == "before the trigger":
            return
        toy.optimizer.start_averaging()
        if when == "at the trigger":
            return
        toy.steps(2)
        toy.replace(remove=[0], grow=[7])
        if when == "later":
            toy.steps(3)
            toy.replace(remove=[1], grow=[1, 3])
            toy.steps(1)

    def go_on(toy: Toy) -> None:
        if when == "before the trigger":
            toy.optimizer.start_averaging()
        toy.steps(1)
        toy.replace(remove=[2], grow=[2])
        toy.steps(3)

    straight = Toy(sparse=sparse, skip_first=skip_first)
    begin(straight)
    file = io.BytesIO()
    torch.save(straight.optimizer.state_dict(), file)
    file.seek(0)
    resumed = Toy(sparse=sparse, skip_first=skip_first)
    resumed.steps(1)  # its own past must not show
    resumed.optimizer.start_averaging()
    resumed.steps(1)
    resumed.sparse_weight.set_mask(straight.sparse_weight.mask)
    resumed.optimizer.load_state_dict(torch.load(file, weights_only=True))
    resumed.sparse_weight.parameter.data.copy_(straight.sparse_weight.parameter)
    resumed.bias.data.copy_(straight.bias)
    resumed.history, resumed.bias_history = list(straight.history), list(straight.bias_history)
    for toy in (straight, resumed):
        go_on(toy)
    assert torch.equal(resumed.weight, straight.weight)
    for ours, theirs in zip(resumed.averages(), straight.averages(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_stored_state_of_another_model_is_refused():
    toy = Toy()
    toy.optimizer.start_averaging()
    toy.steps(1)
    other = AveragedSGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(ValueError, match="parameter"):
        other.load_state_dict(toy.optimizer.state_dict())
