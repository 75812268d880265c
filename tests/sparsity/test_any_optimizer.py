"""Inactive is zero after every step, whatever the optimizer does."""

import pytest
import torch
from own_loops import SAM, Lookahead, SignDescent, Trial, Whitened
from torch import nn

from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.optimizer_state import tensors_like

PLAIN = {
    "Adadelta": {},
    "Adafactor": {},
    "Adagrad": {"lr": 0.01, "initial_accumulator_value": 0.1},
    "Adam": {"weight_decay": 0.1},
    "AdamW": {"amsgrad": True},
    "Adamax": {},
    "ASGD": {},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Rprop": {},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
}
OF_ITS_OWN = {"LBFGS", "Muon", "SparseAdam", "Optimizer"}  # below; SparseAdam takes sparse gradients only


def test_no_optimizer_of_torch_is_left_out():
    known = {name for name in torch.optim.__all__ if isinstance(getattr(torch.optim, name), type)}
    assert known == set(PLAIN) | OF_ITS_OWN


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("method", ["selfish", "snfs"])
def test_optimizers_of_torch(name, method):
    trial = Trial(lambda p: getattr(torch.optim, name)(p, **PLAIN[name]), method=method)
    start = {w.name: w.mask.clone() for w in trial.sparsifier.topology}
    for _ in range(10):
        trial.step()
        trial.assert_sparse()
    assert any(not torch.equal(w.mask, start[w.name]) for w in trial.sparsifier.topology)


@pytest.mark.parametrize("kind", ["muon", "whitened", "signs", "lookahead", "averaged", "sam of adam"])
def test_optimizers_that_move_what_has_no_gradient(kind):
    makers = {
        "muon": lambda p: torch.optim.Muon([each for each in p if each.dim() == 2], lr=0.02),
        "whitened": Whitened,
        "signs": SignDescent,
        "lookahead": lambda p: Lookahead(torch.optim.Adam(p, 0.01)),
        "averaged": lambda p: AveragedSGD(p, 0.1),
        "sam of adam": lambda p: SAM(p, lambda groups: torch.optim.Adam(groups, 0.01)),
    }
    trial = Trial(makers[kind], closure=kind.startswith("sam"))
    for _ in range(10):
        trial.step()
        trial.assert_sparse()


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("method", ["selfish", "rigl", "snfs"])
def test_an_optimizer_with_a_closure_masks_every_gradient(method, search):
    trial = Trial(
        lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4, line_search_fn=search), closure=True, method=method
    )
    for _ in range(10):
        trial.step()
        trial.assert_sparse()
    assert trial.sparsifier.step == 10


def test_a_closure_reads_the_signal_once_a_step():
    """Of the gradients that L-BFGS asks for, the first belongs to the weights that the step begins with."""
    trial = Trial(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4), closure=True, method="snfs", update_interval=19)
    read = []
    original = trial.sparsifier.read_signals
    trial.sparsifier.read_signals = lambda clock: (read.append(clock.step), original(clock))
    trial.step()
    trial.step()
    assert read == [1, 2]


def test_l_bfgs_forgets_its_past_when_the_topology_changes():
    trial = Trial(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2), closure=True)
    for step in range(1, 6):
        trial.step()
        assert bool(trial.optimizer.state) == (step != 4)


def test_sam_in_two_calls():
    trial = Trial(lambda p: SAM(p, lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9)))
    for step in range(1, 9):
        for move in (trial.optimizer.first_step, trial.optimizer.second_step):
            trial.backward()
            trial.sparsifier.before_step()
            move()
        trial.sparsifier.after_step()
        trial.assert_sparse()
        assert trial.sparsifier.step == step


def test_the_state_of_a_wrapped_optimizer_starts_afresh_too():
    trial = Trial(lambda p: SAM(p, lambda groups: torch.optim.Adam(groups, 0.01)), closure=True)
    for _ in range(4):
        trial.step()
    base = trial.optimizer.base_optimizer
    for weight in trial.sparsifier.topology:
        found = tensors_like(trial.optimizer, weight.parameter)
        assert {"old", "exp_avg", "exp_avg_sq"} <= set(found)
        assert found["exp_avg"] is base.state[weight.parameter]["exp_avg"]
        for key in ("exp_avg", "exp_avg_sq"):
            assert not found[key][~weight.mask].count_nonzero()


def test_masks_cost_no_entry_its_training():
    """Every active weight moves under Muon as it would without a sparsifier that masks after the step."""
    trial = Trial(lambda p: torch.optim.Muon([each for each in p if each.dim() == 2], lr=0.02), method="static_uniform")
    before = {w.name: w.parameter.detach().clone() for w in trial.sparsifier.topology}
    trial.step()
    for weight in trial.sparsifier.topology:
        moved = weight.parameter.detach() != before[weight.name]
        assert moved[weight.mask].float().mean() > 0.9


def test_the_optimizer_s_step_is_asked_for():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    trial.step()
    trial.backward()
    trial.sparsifier.before_step()
    with pytest.raises(RuntimeError, match=r"^the optimizer has not stepped since sparsifier\.before_step\(\)"):
        trial.sparsifier.after_step()
    trial.step()
    trial.backward()
    trial.sparsifier.before_step()
    trial.optimizer.step()
    with pytest.raises(RuntimeError, match=r"^call sparsifier\.after_step\(\) after the optimizer's step$"):
        trial.sparsifier.before_step()


def test_a_compiled_step_counts():
    """torch may call no hooks of an optimizer whose step is compiled."""
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    hooks = trial.optimizer._optimizer_step_pre_hooks, trial.optimizer._optimizer_step_post_hooks
    for each in hooks:
        each.clear()
    for step in range(1, 6):
        trial.step()
        trial.assert_sparse()
        assert trial.sparsifier.step == step


def test_a_step_that_a_scaler_leaves_out_does_not_count():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1), method="snfs", update_interval=2)
    scaler = torch.amp.GradScaler("cpu")
    counts = []
    for number in range(8):
        tokens = torch.randint(4, (6, 16))
        trial.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(trial.model(tokens), tokens[0])
        scaler.scale(loss).backward()
        if number % 2:
            trial.model.head.weight.grad.view(-1)[0] = float("inf")
        scaler.unscale_(trial.optimizer)
        trial.sparsifier.before_step()
        scaler.step(trial.optimizer)
        scaler.update()
        report = trial.sparsifier.after_step()
        counts.append((trial.sparsifier.step, report is not None))
        trial.assert_sparse()
    assert counts == [(1, False), (1, False), (2, True), (2, False), (3, False), (3, False), (4, True), (4, False)]
    assert all(tensor.isfinite().all() for tensor in trial.sparsifier.state_dict()["signals"]["momentum"].values())


def test_a_fused_optimizer_that_a_scaler_lets_skip():
    trial = Trial(lambda p: torch.optim.Adam(p, 0.1, fused=True))
    scaler = torch.amp.GradScaler("cpu")
    for bad in (False, True, False):
        tokens = torch.randint(4, (6, 16))
        trial.optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(trial.model(tokens), tokens[0])).backward()
        if bad:
            trial.model.head.weight.grad.view(-1)[0] = float("inf")
        scaler.unscale_(trial.optimizer)
        trial.sparsifier.before_step()
        scaler.step(trial.optimizer)
        scaler.update()
        trial.sparsifier.after_step()
    assert trial.sparsifier.step == 2
