"""Sums of very many values: what float32 loses is kept, whatever restarts, is stored anew or resumes meanwhile."""

import copy

import pytest
import torch
from torch import nn
from toy_training import Toy

from sparse_rnn.optim import averaged_sgd
from sparse_rnn.optim.averaged_sgd import FOLD, AveragedSGD

STEPS = 600_000
RESTART = 250_123


def test_averages_of_600_000_steps_of_weights_that_hardly_move() -> None:
    """Each weight moves by a constant per step, some by nothing; the last two restart in between."""
    start = torch.tensor([0.3, 0.1, -0.7, 1e-3, 0.013, 0.9, 0.1, -0.7])
    pace = torch.tensor([0.0, 1e-8, -1e-7, 0.0, 1e-9, 0.0, 0.0, 1e-7])
    weight = nn.Parameter(start.clone())
    optimizer = AveragedSGD([weight], lr=0.0)
    optimizer.start_averaging()
    exact, counts, plain = torch.zeros(8, dtype=torch.float64), torch.full((8,), STEPS), torch.zeros(8)
    weight.grad = torch.zeros(8)
    [total] = optimizer.sums
    value = weight.detach()
    restarted = torch.arange(8) > 5
    for step in range(STEPS):
        if step == RESTART:
            optimizer.restart_entries(weight, restarted)
            exact[restarted] = 0.0
            plain[restarted] = 0.0
            counts[restarted] = STEPS - RESTART
        value.add_(pace)
        if optimizer.next_step_is_plain:
            total.add_(value)  # as by the replay of a captured step
            optimizer.count_step()
        else:
            optimizer.step()
        exact.add_(value)
        plain.add_(value)
    with optimizer.averaged():
        torch.testing.assert_close(weight.double(), exact / counts, rtol=1e-5, atol=0)
    off = ((plain.double() / exact) - 1).abs()
    assert float(off.max()) > 1e-3  # what sums in float32 alone would give


def test_only_every_256th_step_folds() -> None:
    optimizer = AveragedSGD([nn.Parameter(torch.zeros(1))], lr=0.0)
    optimizer.start_averaging()
    folding = []
    for step in range(3 * FOLD):
        folding += [] if optimizer.next_step_is_plain else [step]
        optimizer.step()
    assert folding == [FOLD - 1, 2 * FOLD - 1, 3 * FOLD - 1]


@pytest.mark.parametrize("fold", [1, 2, 3, 7])
@pytest.mark.parametrize("skip_first", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_folds_leave_the_averages_what_they_are(
    fold: int, skip_first: bool, resumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries 0 and 4 take turns; averages start after step 4 and anew after step 30."""
    monkeypatch.setattr(averaged_sgd, "FOLD", fold)
    toy, began, active = Toy(skip_first=skip_first), {}, {0: 1, 1: 1, 2: 1, 4: 1, 5: 1}
    for step in range(40):
        if step in (4, 30):
            toy.optimizer.start_averaging()
            began = dict.fromkeys(active, step + 1)
        if step in (5, 6, 13, 14, 20, 33):
            removed, grown = (0, 3) if 0 in active else (3, 0)
            toy.replace(remove=[removed], grow=[grown])
            del active[removed]
            active[grown] = began[grown] = step + 1
            began.pop(removed, None)
        toy.steps(1)
        if resumed and step % 3 == 0:
            state = copy.deepcopy(toy.optimizer.state_dict())
            toy.optimizer.start_averaging()
            toy.optimizer.load_state_dict(state)
        weight, _ = toy.averages()
        for entry, first in began.items():
            alone = skip_first and first <= step  # the first value is left out if there are others
            expected = toy.mean(entry, first + alone)
            assert float(weight.view(-1)[entry]) == pytest.approx(expected, rel=1e-12), (step, entry)


def test_a_checkpoint_from_before_there_were_folds_still_loads() -> None:
    toy, resumed = Toy(), Toy()
    toy.optimizer.start_averaging()
    toy.steps(5)
    state = toy.optimizer.state_dict()
    state["averages"] = [{key: average[key] for key in ("total", "since")} for average in state["averages"]]
    resumed.topology.load_state_dict(toy.topology.state_dict())
    resumed.optimizer.load_state_dict(state)
    with torch.no_grad():
        for ours, theirs in zip(resumed.optimizer.parameters, toy.optimizer.parameters, strict=True):
            ours.copy_(theirs)
    for ours, theirs in zip(resumed.averages(), toy.averages(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 5), (0, 3)])
def test_pieces_cover_a_tensor_of_any_shape(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averaged_sgd, "PIECE", 4)
    monkeypatch.setattr(averaged_sgd, "FOLD", 2)
    weight = nn.Parameter(torch.rand(shape, dtype=torch.float64))
    transposed = nn.Parameter(torch.rand(4, 3, dtype=torch.float64).t())
    optimizer = AveragedSGD([weight, transposed], lr=0.1)
    optimizer.start_averaging()
    values: list[list[torch.Tensor]] = [[], []]
    for _ in range(5):
        for parameter in optimizer.parameters:
            parameter.grad = torch.rand_like(parameter)
        optimizer.step()
        for kept, parameter in zip(values, optimizer.parameters, strict=True):
            kept.append(parameter.detach().clone())
    with optimizer.averaged():
        for kept, parameter in zip(values, optimizer.parameters, strict=True):
            torch.testing.assert_close(parameter.detach(), torch.stack(kept).mean(0), rtol=1e-12, atol=0)
