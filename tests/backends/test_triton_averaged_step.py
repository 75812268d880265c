"""The optimizer's kernels in Triton's interpreter against mask, clip_grad_norm_ and AveragedSGD.step in torch."""

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.optim import averaged_sgd
from sparse_rnn.optim.averaged_sgd import AveragedSGD

pytest.importorskip("triton", reason="triton is not installed")

from sparse_rnn.backends.gpu.averaged_step import BLOCK, FusedAveragedStep

SHAPES = {"weight": (3, 1501), "small": (2, 3), "bias": (7,), "one": (1,), "block": (BLOCK,), "unused": (5,)}
MASKED = ("weight", "small")
LR = 0.7


class Training:
    """Parameters on the same random gradients, with a step in torch or by the kernels."""

    def __init__(self, *, clip: float | None, fused: bool, **settings: float | bool) -> None:
        random = torch.Generator().manual_seed(3)
        self.clip, self.random = clip, random
        self.parameters = {name: nn.Parameter(torch.randn(shape, generator=random)) for name, shape in SHAPES.items()}
        self.masks = {name: torch.rand(SHAPES[name], generator=random) < 0.4 for name in MASKED}
        for name, mask in self.masks.items():
            self.parameters[name].data.mul_(mask)
        rate = torch.tensor(LR) if fused else LR
        self.optimizer = AveragedSGD(self.parameters.values(), rate, **settings)
        by_parameter = {self.parameters[name]: mask for name, mask in self.masks.items()}
        self.fused = FusedAveragedStep(self.optimizer, by_parameter, clip) if fused else None

    def step(self, *, nan: int | None = None) -> None:
        """nan: the entry of `weight` whose gradient is NaN."""
        for name, parameter in self.parameters.items():
            gradient = torch.randn(SHAPES[name], generator=self.random)
            parameter.grad = None if name == "unused" else gradient
        if nan is not None:
            self.parameters["weight"].grad.view(-1)[nan] = torch.nan
        if self.fused and self.fused.applies:
            self.fused()
            return
        for name, mask in self.masks.items():
            self.parameters[name].grad.mul_(mask)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        self.optimizer.step()

    def averages(self) -> list[Tensor]:
        with self.optimizer.averaged():
            return [parameter.detach().clone() for parameter in self.parameters.values()]


def assert_same(kernels: Training, torch_s: Training) -> None:
    for name, parameter in kernels.parameters.items():
        torch.testing.assert_close(parameter, torch_s.parameters[name], rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("clip", [None, 0.25, 1e4])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_and_averages_are_those_of_torch(clip, weight_decay):
    both = [Training(clip=clip, fused=fused, weight_decay=weight_decay) for fused in (True, False)]
    start = both[0].parameters["bias"].detach().clone()
    for training in both:
        training.step()
        training.optimizer.start_averaging()
        for _ in range(2):
            training.step()
    assert_same(*both)
    assert both[0].optimizer.steps == both[1].optimizer.steps == 3
    for ours, theirs in zip(*(training.averages() for training in both), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert not torch.equal(both[0].parameters["bias"], start)
    assert not both[0].parameters["weight"][~both[0].masks["weight"]].any()


def test_steps_that_are_not_plain_are_left_to_the_optimizer():
    both = [Training(clip=0.25, fused=fused, skip_first=True) for fused in (True, False)]
    applied = []
    for training in both:
        training.optimizer.start_averaging()
        for _ in range(4):
            applied.append(training.fused.applies if training.fused else None)
            training.step()
    assert applied[:4] == [True, False, True, True]
    for ours, theirs in zip(*(training.averages() for training in both), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_steps_that_fold_the_sums_are_left_to_the_optimizer(monkeypatch):
    monkeypatch.setattr(averaged_sgd, "FOLD", 3)
    both = [Training(clip=0.25, fused=fused) for fused in (True, False)]
    applied = []
    for training in both:
        training.optimizer.start_averaging()
        for _ in range(7):
            applied.append(training.fused.applies if training.fused else None)
            training.step()
    assert applied[:7] == [True, True, False, True, True, False, True]
    assert_same(*both)
    for ours, theirs in zip(*(training.averages() for training in both), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_mask_that_changes_in_place_and_another_rate_count_at_once():
    both = [Training(clip=0.25, fused=fused) for fused in (True, False)]
    for training in both:
        training.step()
        training.masks["weight"].copy_(~training.masks["weight"])
        training.parameters["weight"].data.mul_(training.masks["weight"])
        (group,) = training.optimizer.param_groups
        group["lr"] = group["lr"].fill_(0.1) if training.fused else 0.1
        training.step()
    assert_same(*both)
    assert both[0].parameters["weight"][both[0].masks["weight"]].all()


def test_gradients_are_left_alone():
    training = Training(clip=0.25, fused=True)
    training.step()
    gradient = training.parameters["weight"].grad
    assert gradient[~training.masks["weight"]].all()
    assert gradient.norm() > 0.25


@pytest.mark.parametrize("clip", [None, 0.25])
@pytest.mark.parametrize("active", [True, False])
def test_a_gradient_that_is_nan_is_as_visible_as_in_torch(clip, active):
    """With clipping it reaches every parameter; without, its own entry, even an inactive one."""
    both = [Training(clip=clip, fused=fused) for fused in (True, False)]
    entry = int((both[0].masks["weight"].view(-1) == active).nonzero()[0])
    for training in both:
        training.step(nan=entry)
    ours, theirs = (training.parameters for training in both)
    for name in SHAPES:
        assert torch.equal(ours[name].isnan(), theirs[name].isnan()), name
    assert ours["weight"].view(-1)[entry].isnan()
    assert bool(ours["bias"].isnan().all()) == (clip is not None)


def test_a_learning_rate_that_a_replay_could_not_change_is_refused():
    training = Training(clip=None, fused=True)
    training.optimizer.param_groups[0]["lr"] = LR
    with pytest.raises(TypeError, match="float32 tensor"):
        training.step()


def test_what_is_not_contiguous_is_refused():
    weight = nn.Parameter(torch.zeros(3, 2).t())
    with pytest.raises(ValueError, match=r"use optimizer\.step"):
        FusedAveragedStep(AveragedSGD([weight], 0.1), {}, None)
