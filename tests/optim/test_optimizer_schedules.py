import pytest
import torch
from torch import nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.optim.after_validation import NonMonotonicTrigger, Plateau, StepDecay, WarmupCosine
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.optim.configurations import (
    AdamConfig,
    AdamWConfig,
    MomentumSGDConfig,
    NTASGDConfig,
    SGDConfig,
    SNTASGDConfig,
)


def optimizer() -> AveragedSGD:
    return AveragedSGD([nn.Parameter(torch.zeros(2))], lr=1.0)


def trigger_epochs(losses: list[float], **settings) -> list[int]:
    """The epochs (from 1) after which averaging begins or begins anew."""
    trigger = NonMonotonicTrigger(optimizer(), **({"nonmono": 5} | settings))
    return [epoch for epoch, loss in enumerate(losses, 1) if trigger.step(loss, epoch)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [7]),  # facts C: never before epoch 7
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], []),
        ([5, 4, 3, 2, 1, 2, 2, 2, 2, 2, 2, 2], [11]),  # the best, of epoch 5, is six epochs old in epoch 11
        ([5, 5, 5, 5, 5, 5, 5, 5, 5], []),  # equal is not worse
        ([5, 5, 5, 5, 5, 5, 5, 5.1], [8]),
        ([1, 9, 9, 9, 9, 9, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], [13]),  # the new best, of epoch 7, counts in epoch 13
    ],
)
def test_the_trigger_looks_more_than_five_epochs_back(losses, expected):
    assert trigger_epochs(losses) == expected


def test_the_trigger_with_no_patience():
    assert trigger_epochs([3, 2, 2.5, 9], nonmono=0) == [3]


def test_averaging_is_forced_at_the_latest_epoch():
    assert trigger_epochs([9, 8, 7, 6, 5], latest=4) == [4]
    assert trigger_epochs([1, 2, 3, 4, 5, 6, 7, 8], latest=8) == [7]


def test_the_log_says_whether_it_was_forced():
    facts = []
    for losses, latest in [([3.0, 2.0], 2), ([3.0, 4.0], 2), ([3.0, 2.0], None)]:
        trigger = NonMonotonicTrigger(optimizer(), 0, latest)
        for epoch, loss in enumerate(losses, 1):
            trigger.step(loss, epoch)
        facts.append(trigger.facts())
    forced, triggered, neither = facts
    assert forced == {"averaging/trigger_epoch": 2, "averaging/forced": 1.0}
    assert triggered == {"averaging/trigger_epoch": 2, "averaging/forced": 0.0}
    assert neither == {}


def test_averages_restart_at_given_epochs_if_they_run():
    """facts C: at epoch 500 of the ON-LSTM's runs, and only while averaging."""
    rising = [float(epoch) for epoch in range(1, 13)]
    assert trigger_epochs(rising, restarts=[3, 9, 11]) == [7, 9, 11]


def test_the_trigger_starts_the_averages():
    sgd = optimizer()
    trigger = NonMonotonicTrigger(sgd, 0)
    trigger.step(1.0, 1)
    sgd.step()
    assert not sgd.averaging
    trigger.step(2.0, 2)
    assert not sgd.averaging
    sgd.step()
    assert sgd.averaging


def test_the_trigger_resumes():
    losses = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    for split in range(len(losses)):
        first = NonMonotonicTrigger(optimizer(), 5, restarts=[9])
        fired = [epoch for epoch, loss in enumerate(losses[:split], 1) if first.step(loss, epoch)]
        second = NonMonotonicTrigger(optimizer(), 5, restarts=[9])
        second.load_state_dict(first.state_dict())
        fired += [epoch for epoch, loss in enumerate(losses[split:], split + 1) if second.step(loss, epoch)]
        assert fired == [7, 9]


LOSSES = [5, 4, 4, 5, 4.5, 3, 3.5, 3.5, 3.0, 3.1]
RATES = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_rate_halves_at_the_third_bad_epoch_in_a_row():
    """facts D: factor 1/2, patience 2, threshold 0; an equal loss is a bad one."""
    sgd = optimizer()
    plateau = Plateau(sgd, 0.5, 2)
    rates = []
    for epoch, loss in enumerate(LOSSES, 1):
        assert plateau.step(loss, epoch) is False
        rates.append(sgd.param_groups[0]["lr"])
    assert rates == RATES


def test_any_improvement_counts():
    """facts D: threshold 0."""
    sgd = optimizer()
    plateau = Plateau(sgd, 0.5, 2)
    for epoch in range(1, 20):
        plateau.step(5 - 1e-5 * epoch, epoch)
    assert sgd.param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("split", range(1, 10))
def test_the_plateau_resumes(split):
    sgd = optimizer()
    first = Plateau(sgd, 0.5, 2)
    for epoch, loss in enumerate(LOSSES[:split], 1):
        first.step(loss, epoch)
    other = optimizer()
    other.load_state_dict(sgd.state_dict())
    second = Plateau(other, 0.5, 2)
    second.load_state_dict(first.state_dict())
    for epoch, loss in enumerate(LOSSES[split:], split + 1):
        second.step(loss, epoch)
        assert other.param_groups[0]["lr"] == RATES[epoch - 1]


def step_rates(decay: StepDecay, sgd: AveragedSGD, epochs: range) -> list[float]:
    """The learning rate after each of these epochs."""
    rates = []
    for epoch in epochs:
        assert decay.step(1.0, epoch) is False
        rates.append(sgd.param_groups[0]["lr"])
    return rates


def test_the_rate_falls_in_steps():
    """A half at the end of epoch 3 and of every second one after it."""
    sgd = optimizer()
    assert step_rates(StepDecay(sgd, 0.5, 3, 2), sgd, range(1, 9)) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("split", range(1, 8))
def test_the_steps_resume(split):
    sgd, other = optimizer(), optimizer()
    first, second = StepDecay(sgd, 0.1, 2, 2), StepDecay(other, 0.1, 2, 2)
    rates = step_rates(first, sgd, range(1, split))
    other.load_state_dict(sgd.state_dict())
    second.load_state_dict(first.state_dict())
    rates += step_rates(second, other, range(split, 8))
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def step_by_step(schedule, sgd, steps: range, of: int) -> list[float]:
    """The learning rate of each of these steps, of a training of `of` steps."""
    rates = []
    for step in steps:
        schedule.before_step(step / of)
        rates.append(sgd.param_groups[0]["lr"])
    return rates


def test_the_rate_rises_linearly_and_falls_in_a_cosine():
    """Of ten steps two rise; the rest falls to a tenth: .1 + .9 (1 + cos(pi k / 8)) / 2 for k = 1 .. 8."""
    sgd = optimizer()
    rates = step_by_step(WarmupCosine(sgd, 0.2, 0.1), sgd, range(1, 11), 10)
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == pytest.approx([0.96575, 0.86820, 0.72221, 0.55, 0.37779, 0.23180, 0.13425, 0.1], abs=1e-5)
    sgd = optimizer()
    assert step_by_step(WarmupCosine(sgd, 0.25, 1.0), sgd, range(1, 5), 4) == [1.0] * 4
    assert step_by_step(WarmupCosine(sgd, 0.0, 0.0), sgd, range(1, 3), 2) == pytest.approx([0.5, 0.0])


def test_warm_up_and_cosine_resume():
    sgd, other = optimizer(), optimizer()
    first, second = WarmupCosine(sgd, 0.3, 0.0), WarmupCosine(other, 0.3, 0.0)
    rates = step_by_step(first, sgd, range(1, 6), 9)
    other.load_state_dict(sgd.state_dict())
    second.load_state_dict(first.state_dict())
    rates += step_by_step(second, other, range(6, 10), 9)
    whole = optimizer()
    assert rates == step_by_step(WarmupCosine(whole, 0.3, 0.0), whole, range(1, 10), 9)


@pytest.mark.parametrize("config", [AdamConfig, AdamWConfig])
def test_adaptive_optimizers_warm_up_if_asked(config):
    parameters = [nn.Parameter(torch.zeros(2))]
    chosen = config(lr=0.01, warmup=0.5, cosine_factor=0.1)
    built = chosen.build(parameters, ProtocolConfig())
    rates = step_by_step(chosen.schedule(built, 4), built, range(1, 5), 4)
    assert rates == pytest.approx([0.005, 0.01, 0.0055, 0.001])


def test_vectors_need_not_shrink():
    """A step without gradients: AdamW leaves those alone, so give zeros."""
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    chosen = AdamWConfig(lr=0.5, weight_decay=0.1, decay_vectors=False)
    built = chosen.build([vector, matrix], ProtocolConfig())
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    built.step()
    assert vector.tolist() == [1, 1]
    assert matrix.flatten().tolist() == pytest.approx([0.95] * 4)


@pytest.mark.parametrize(
    ("epochs", "after", "every", "expected"),
    [(9, 1 / 3, 1 / 3, [3, 6, 9]), (4, 1 / 3, 1 / 3, [1, 2, 3, 4]), (10, 0.5, 0.2, [5, 7, 9]), (2, 0.1, 0.1, [1, 2])],
)
def test_shares_of_training_become_epochs(epochs, after, every, expected):
    config = SGDConfig(lr=1.0, decay_factor=0.5, decay_after=after, decay_every=every)
    sgd = config.build([nn.Parameter(torch.zeros(2))], ProtocolConfig())
    rates = [1.0, *step_rates(config.schedule(sgd, epochs), sgd, range(1, epochs + 1))]
    assert [epoch for epoch in range(1, epochs + 1) if rates[epoch] < rates[epoch - 1]] == expected


def test_plain_sgd_by_default():
    config = SGDConfig(lr=2.0)
    sgd = config.build([nn.Parameter(torch.zeros(2))], ProtocolConfig())
    assert type(sgd) is torch.optim.SGD
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["weight_decay"]) == (0, 0)
    assert set(step_rates(config.schedule(sgd, 6), sgd, range(1, 7))) == {2.0}


@pytest.mark.parametrize("model", ["stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos"])
def test_recipes_build_optimizers_as_the_papers_run_them(model):
    """facts D."""
    parameters = [nn.Parameter(torch.zeros(2))]
    adam = compose_run([f"model={model}", "optimizer=adam"]).optimizer
    (group,) = adam.build(parameters, ProtocolConfig()).param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.001, (0.0, 0.999), 1e-9, 1.2e-6)
    assert (adam.plateau_factor, adam.plateau_patience) == (0.5, 2)
    config = compose_run([f"model={model}", "optimizer=momentum_sgd"]).optimizer
    sgd = config.build(parameters, ProtocolConfig())
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["weight_decay"]) == (0.9, 1.2e-6)
    plateau = config.schedule(sgd, 100)
    for epoch, loss in enumerate([1.0, 1.0, 1.0], 1):
        plateau.step(loss, epoch)
    assert sgd.param_groups[0]["lr"] == 2 * (1 / 1.33)


@pytest.mark.parametrize(
    ("config", "torch_s"),
    [
        (AdamConfig(), torch.optim.Adam),
        (AdamWConfig(), torch.optim.AdamW),
        (MomentumSGDConfig(lr=0.001), lambda parameters: torch.optim.SGD(parameters, 0.001, 0.9)),
    ],
)
def test_without_a_recipe_optimizers_are_torch_s(config, torch_s):
    """As everybody knows them by their names: every setting is torch's default, and the rate is constant."""
    parameters = [nn.Parameter(torch.zeros(2))]
    ours, theirs = config.build(parameters, ProtocolConfig()), torch_s(parameters)
    assert type(ours) is type(theirs)
    assert ours.param_groups == theirs.param_groups
    assert set(step_rates(config.schedule(ours, 6), ours, range(1, 7))) == {0.001}


@pytest.mark.parametrize(("config", "sparse"), [(SNTASGDConfig, True), (NTASGDConfig, False)])
@pytest.mark.parametrize("skip", [True, False])
def test_averaged_optimizers_follow_the_protocol(config, sparse, skip):
    protocol = ProtocolConfig(skip_first_average=skip)
    built = config(lr=40.0, average_by=1.0).build([nn.Parameter(torch.zeros(2))], protocol)
    assert (built.sparse, built.skip_first) == (sparse, skip)


@pytest.mark.parametrize(("average_by", "epochs", "forced"), [(0.5, 10, 5), (0.6, 4, 2), (0.1, 4, 1), (1.0, 4, None)])
def test_a_budget_forces_averaging_after_its_share_of_the_epochs(average_by, epochs, forced):
    config = SNTASGDConfig(lr=1.0, average_by=average_by)
    schedule = config.schedule(optimizer(), epochs)
    fired = [epoch for epoch in range(1, epochs + 1) if schedule.step(1.0 / epoch, epoch)]
    assert fired == ([forced] if forced else [])


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (AdamConfig, {"lr": 0.0}),
        (AdamConfig, {"lr": 0.1, "weight_decay": -1.0}),
        (AdamWConfig, {"beta1": 1.0}),
        (AdamWConfig, {"epsilon": 0.0}),
        (AdamWConfig, {"warmup": 1.0}),
        (AdamWConfig, {"cosine_factor": -0.1}),
        (AdamConfig, {"plateau_factor": 0.5, "warmup": 0.1}),
        (AdamConfig, {"plateau_factor": 0.5, "cosine_factor": 0.1}),
        (MomentumSGDConfig, {"lr": 0.1, "plateau_factor": 1.5}),
        (SGDConfig, {"lr": 1.0, "weight_decay": -1.0}),
        (SGDConfig, {"lr": 1.0, "decay_factor": 0.0}),
        (SGDConfig, {"lr": 1.0, "decay_after": 0.0}),
        (SGDConfig, {"lr": 1.0, "decay_every": 1.5}),
        (SNTASGDConfig, {"lr": 1.0, "average_by": 0.0}),
        (SNTASGDConfig, {"lr": 1.0, "average_by": 1.0, "nonmono": -1}),
    ],
)
def test_settings_out_of_range_are_refused(config, settings):
    with pytest.raises(ConfigError, match=r"^optimizer\.\w+=.*\.$"):
        config(**settings)
