"""Optimizers as their parameters' device runs them best, and states that go from one device to another."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.optim.configurations import AdamConfig, AdamWConfig, MomentumSGDConfig, SGDConfig, SNTASGDConfig

ADAPTIVE = (AdamConfig, AdamWConfig)


def build(config: type, device: str = "cpu") -> Optimizer:
    settings = {"average_by": 1.0} if config is SNTASGDConfig else {}
    return config(lr=0.5, **settings).build(iter([nn.Parameter(torch.ones(2, 3, device=device))]), ProtocolConfig())


def step(optimizer: Optimizer, gradient: float) -> Tensor:
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    return parameter.detach().clone()


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (SGDConfig, {"fused": True}),
        (MomentumSGDConfig, {"fused": True}),
        (AdamConfig, {"fused": True, "capturable": True}),
        (AdamWConfig, {"fused": True, "capturable": True}),
        (SNTASGDConfig, {"fused": True}),
    ],
)
def test_on_a_gpu_steps_are_fused_and_can_be_captured(config, flags):
    with FakeTensorMode():
        (group,) = build(config, "cuda").param_groups
    assert flags.items() <= group.items()


@pytest.mark.parametrize("config", [SGDConfig, AdamConfig, AdamWConfig, MomentumSGDConfig])
def test_on_the_cpu_torch_chooses(config):
    (group,) = build(config).param_groups
    assert group["fused"] is None
    assert not group.get("capturable")


def test_adam_counts_its_steps_on_the_gpu():
    with FakeTensorMode():
        adam = build(AdamConfig, "cuda")
        step(adam, 1.0)
        (state,) = adam.state.values()
        assert {tensor.device.type for tensor in state.values()} == {"cuda"}


@pytest.mark.parametrize("config", [SGDConfig, AdamConfig, AdamWConfig, MomentumSGDConfig])
def test_fused_steps_are_those_of_the_others(config):
    plain, fused = build(config), build(config)
    fused.param_groups[0]["fused"] = True
    for gradient in (1.0, -0.3, 0.2):
        torch.testing.assert_close(step(fused, gradient), step(plain, gradient), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("config", [SGDConfig, AdamConfig, AdamWConfig, MomentumSGDConfig])
def test_a_state_of_a_gpu_does_not_bring_its_flags(config):
    here, there = build(config), build(config)
    there.param_groups[0].update({"fused": True, "capturable": True} if config in ADAPTIVE else {"fused": True})
    step(there, 1.0)
    here.load_state_dict(there.state_dict())
    assert here.param_groups[0]["fused"] is None
    assert not here.param_groups[0].get("capturable")
    step(here, 1.0)


def test_a_state_with_other_groups_is_refused():
    optimizer = build(AdamConfig)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="zip"):
        optimizer.load_state_dict(state | {"param_groups": state["param_groups"] * 2})


def test_averaged_sgd_takes_a_step_at_the_rate_in_a_tensor():
    with_tensor, with_number = build(SNTASGDConfig), build(SNTASGDConfig)
    assert isinstance(with_tensor, AveragedSGD)
    with_tensor.param_groups[0]["lr"] = torch.tensor(0.5)
    torch.testing.assert_close(step(with_tensor, 1.0), step(with_number, 1.0))
