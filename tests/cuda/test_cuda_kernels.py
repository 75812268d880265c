"""Triton kernels against torch on the device, at the papers' sizes: small tests do not find every wrong kernel."""

import copy

import pytest
import torch
from device_runs import DEVICE
from torch import nn

from sparse_rnn.core.device import autocast, set_up_device
from sparse_rnn.models.awd_lstm_mos import AWDLSTMMoSConfig
from sparse_rnn.models.on_lstm import ONLSTMConfig
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD

pytest.importorskip("triton", reason="triton is not installed")

PAPERS = [  # configuration, words, window, batch
    (RHNConfig(), 10_000, 35, 20),
    (ONLSTMConfig(), 10_000, 70, 20),
    (AWDLSTMMoSConfig(), 33_278, 70, 5),
]
ODD = [
    (RHNConfig(hidden=331, depth=3), 101, 1, 1),
    (ONLSTMConfig(embedding=35, hidden=231, chunk=7), 101, 3, 1),
    (AWDLSTMMoSConfig(embedding=13, hidden=37, last_hidden=11, experts=3), 4_099, 2, 1),
]
CLIP = 0.25


def loss_and_gradients(model, window, precision):
    """Of one training step without the optimizer, with the same dropout masks each time."""
    model.zero_grad()
    torch.manual_seed(1)
    with autocast(window.device, precision):
        loss, penalty, _ = model.training_loss(window[:-1], window[1:], model.initial_hidden(window.shape[1]))
        objective = loss if penalty is None else loss + penalty
    objective.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 5e-2)])
@pytest.mark.parametrize(
    ("config", "words", "window", "batch"), PAPERS + ODD, ids=lambda value: getattr(value, "name", value)
)
def test_loss_and_gradients(config, words, window, batch, precision, tolerance):
    from sparse_rnn.backends.gpu.convert import use_triton

    device = torch.device(DEVICE)
    set_up_device(device, precision, deterministic=False)
    torch.manual_seed(0)
    plain = config.build(words).to(device).train()
    fused = copy.deepcopy(plain)
    use_triton(fused)
    tokens = torch.randint(words, (window + 1, batch)).to(device)
    expected, gradients = loss_and_gradients(plain, tokens, precision)
    loss, ours = loss_and_gradients(fused, tokens, precision)
    assert abs(float(loss - expected)) <= tolerance * float(expected)
    for name, gradient in gradients.items():
        largest = float(gradient.abs().max())
        assert float((ours[name] - gradient).abs().max()) <= tolerance * largest, name


class Optimized:
    """A model that steps on random gradients, with mask and clipping in torch or by the kernels."""

    def __init__(self, model: nn.Module, masks: dict[str, torch.Tensor], *, fused: bool) -> None:
        from sparse_rnn.backends.gpu.averaged_step import FusedAveragedStep

        self.parameters = dict(model.named_parameters())
        self.masks = {self.parameters[name]: mask for name, mask in masks.items()}
        rate = torch.tensor(40.0, device=DEVICE) if fused else 40.0
        self.optimizer = AveragedSGD(self.parameters.values(), rate, 1.2e-6)
        self.fused = FusedAveragedStep(self.optimizer, self.masks, CLIP) if fused else None

    def step(self, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in self.parameters.values():
            parameter.grad = torch.randn_like(parameter)
        if self.fused:
            self.fused()
            return
        for parameter, mask in self.masks.items():
            parameter.grad.mul_(mask)
        nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
        self.optimizer.step()


def test_the_optimizer_s_step_on_66_million_weights():
    torch.manual_seed(0)
    model = StackedLSTMConfig().build(10_000).to(DEVICE)
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 2}
    masks = {name: torch.rand_like(weight) < 0.33 for name, weight in weights.items()}
    fused, plain = (Optimized(copy.deepcopy(model), masks, fused=fused) for fused in (True, False))
    for each in (fused, plain):
        each.step(1)
        each.optimizer.start_averaging()
        for seed in (2, 3):
            each.step(seed)
    with fused.optimizer.averaged(), plain.optimizer.averaged():
        for name, parameter in plain.parameters.items():
            torch.testing.assert_close(fused.parameters[name], parameter, rtol=1e-5, atol=1e-6, msg=name)
