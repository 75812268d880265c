"""SNT-ASGD against Eq. 5, NT-ASGD against torch, both in float64."""

import pytest
import torch
from storages import masked_only
from torch import nn
from toy_training import Toy

from sparse_rnn.optim.averaged_sgd import AveragedSGD


@pytest.mark.parametrize("later", [0, 1, 7])
def test_snt_asgd_is_eq_5(later):
    """Trigger after step 3. Entry 3 grows after step 5, entry 4 leaves then; entry 1 is removed and regrown after 8,
    entry 3 again after 10, in one update with 6; entry 0 is active throughout."""
    toy = Toy()
    toy.steps(3)
    toy.optimizer.start_averaging()
    toy.steps(2)
    toy.replace(remove=[4], grow=[3])
    toy.steps(3)
    toy.replace(remove=[1], grow=[1])
    toy.steps(2)
    toy.replace(remove=[3], grow=[3, 6])
    toy.steps(1 + later)
    weight, bias = toy.averages()
    expected = [
        toy.mean(0, 4),
        toy.mean(1, 9),
        toy.mean(2, 4),
        toy.mean(3, 11),
        0.0,
        toy.mean(5, 4),
        toy.mean(6, 11),
        0,
    ]
    assert weight.view(-1).tolist() == pytest.approx(expected, rel=1e-12, abs=0)
    torch.testing.assert_close(bias, torch.stack(toy.bias_history[3:]).mean(0), rtol=1e-12, atol=0)


def test_an_entry_grown_just_now_is_evaluated_as_zero():
    """No value after its activation exists yet: it contributes nothing, as its raw value does."""
    toy = Toy()
    toy.optimizer.start_averaging()
    toy.steps(4)
    toy.replace(remove=[0], grow=[7])
    weight, _ = toy.averages()
    assert weight.view(-1)[[0, 7]].tolist() == [0, 0]
    assert weight.view(-1)[1] == pytest.approx(toy.mean(1, 1), rel=1e-12)


def test_activations_before_the_trigger_count_from_the_trigger():
    """T_i is the later of activation and trigger."""
    toy = Toy()
    toy.steps(2)
    toy.replace(remove=[0], grow=[7])
    toy.steps(2)
    toy.optimizer.start_averaging()
    toy.steps(3)
    weight, _ = toy.averages()
    assert weight.view(-1)[[1, 7]].tolist() == pytest.approx([toy.mean(1, 5), toy.mean(7, 5)], rel=1e-12)


def test_a_restart_begins_all_averages_anew():
    toy = Toy()
    toy.optimizer.start_averaging()
    toy.steps(2)
    toy.replace(remove=[0], grow=[7])
    toy.steps(2)
    toy.optimizer.start_averaging()
    assert not toy.optimizer.averaging
    toy.steps(3)
    weight, bias = toy.averages()
    assert weight.view(-1)[[1, 7]].tolist() == pytest.approx([toy.mean(1, 5), toy.mean(7, 5)], rel=1e-12)
    torch.testing.assert_close(bias, torch.stack(toy.bias_history[4:]).mean(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_nothing_sparse_it_is_torch_s_asgd(count, weight_decay):
    """facts C: with t0 = 0 torch's average leaves out its first value; torch keeps its 1 / n in single precision."""
    toy = Toy(dense=True, skip_first=True, weight_decay=weight_decay)
    other = [nn.Parameter(toy.weight), nn.Parameter(toy.bias.detach().clone())]
    reference = torch.optim.ASGD(other, lr=0.5, lambd=0.0, alpha=0.0, t0=0.0, weight_decay=weight_decay)
    toy.optimizer.start_averaging()
    toy.steps(count)
    for step in range(count):
        other[0].grad, other[1].grad = toy.gradients[step, 0].clone(), toy.gradients[step, 1, 0].clone()
        reference.step()
    torch.testing.assert_close(toy.weight, other[0].detach(), rtol=1e-12, atol=1e-12)
    for average, parameter in zip(toy.averages(), other, strict=True):
        torch.testing.assert_close(average, reference.state[parameter]["ax"], rtol=1e-6, atol=1e-6)


def test_each_entry_skips_its_own_first_value():
    """facts C: after k active steps, k >= 2, the mean of w_2 ... w_k; after one step, w_1."""
    toy = Toy(skip_first=True)
    toy.optimizer.start_averaging()
    toy.steps(4)
    toy.replace(remove=[0], grow=[3])
    toy.steps(3)
    toy.replace(remove=[1], grow=[7])
    toy.steps(1)
    weight, bias = toy.averages()
    expected = [toy.mean(2, 2), toy.mean(3, 6), toy.mean(7, 8)]
    assert weight.view(-1)[[2, 3, 7]].tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(bias, torch.stack(toy.bias_history[1:]).mean(0), rtol=1e-12, atol=0)
    toy.steps(1)
    assert toy.averages()[0].view(-1)[7] == pytest.approx(toy.mean(7, 9), rel=1e-12)


@masked_only("averages of optimizer=nt_asgd keep the history of inactive weights")
@pytest.mark.parametrize("skip_first", [False, True])
def test_nt_asgd_keeps_its_history(skip_first):
    """Selfish-RNN Table 5: grown weights are averaged with their zeros, removed ones leave their past behind."""
    toy = Toy(sparse=False, skip_first=skip_first)
    toy.optimizer.start_averaging()
    toy.steps(3)
    toy.replace(remove=[0], grow=[7])
    toy.steps(3)
    weight, _ = toy.averages()
    assert torch.allclose(weight, torch.stack(toy.history[skip_first:]).mean(0), rtol=1e-12, atol=0)
    assert weight.view(-1)[0] != 0


def test_parameters_without_a_gradient_are_their_own_average():
    """The official swap fails for them (facts I)."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.full((2,), 0.3))
    optimizer = AveragedSGD([used, unused], lr=0.1)
    optimizer.start_averaging()
    for _ in range(7):
        used.grad = torch.ones(2)
        optimizer.step()
    with optimizer.averaged():
        torch.testing.assert_close(unused.detach(), torch.full((2,), 0.3))
        torch.testing.assert_close(used.detach(), torch.full((2,), 0.6))
    assert torch.equal(unused.detach(), torch.full((2,), 0.3))


def test_the_plain_step_is_that_of_sgd():
    toy, other = Toy(), Toy()
    reference = torch.optim.SGD([other.sparse_weight.parameter, other.bias], lr=0.5, weight_decay=1e-2)
    other.optimizer = reference
    toy.steps(5)
    other.steps(5)
    torch.testing.assert_close(toy.weight, other.weight, rtol=1e-12, atol=1e-12)


def test_more_updates_than_16_bits_count():
    """A first restart after 32,767 updates, and one of a weight that has been restarted before them."""
    early, late = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = AveragedSGD([early, late], lr=0.0)
    optimizer.start_averaging()
    optimizer.steps = 1
    optimizer.restart_entries(early, torch.tensor([True, False]))
    optimizer._events += range(2, 40_000)
    optimizer.steps = 40_000
    for parameter in (early, late):
        optimizer.restart_entries(parameter, torch.tensor([False, True]))
    since = [average.since.tolist() for average in optimizer._averages]
    assert since == [[1, 40_000], [0, 40_000]]


def test_sums_are_bitwise_those_of_single_additions():
    random = torch.Generator().manual_seed(4)
    shapes = (3, 5), (7,), (1,), (64, 33)
    parameters = [nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
    optimizer = AveragedSGD(parameters, lr=0.3)
    optimizer.start_averaging()
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(5):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()
        for total, parameter in zip(expected, parameters, strict=True):
            total.add_(parameter.detach())
    for ours, total in zip(optimizer.sums, expected, strict=True):
        assert torch.equal(ours, total)


@pytest.mark.parametrize("skip_first", [False, True])
def test_plain_steps_are_those_that_only_add_to_the_sums(skip_first):
    """Each sum leaves out its first value with its second one, so the steps after those of its start are not plain."""
    toy, plain = Toy(skip_first=skip_first), []
    for number in range(9):
        if number == 2:
            toy.optimizer.start_averaging()
        if number in (4, 5):
            toy.replace(remove=[number - 4], grow=[number - 4])
        before = [total.clone() for total in toy.optimizer.sums]
        plain.append(toy.optimizer.next_step_is_plain)
        toy.steps(1)
        expected = [total + p for total, p in zip(before, toy.optimizer.parameters, strict=bool(before))]
        assert all(map(torch.equal, toy.optimizer.sums, expected)) == plain[-1], number
    assert plain == [not skip_first or number not in (3, 5, 6) for number in range(9)]


def test_a_step_done_elsewhere_is_counted():
    """As by the replay of a captured step, which moves the parameters and adds them to the sums."""
    replayed, stepped = Toy(), Toy()
    for toy in (replayed, stepped):
        toy.optimizer.start_averaging()
    for _ in range(3):
        for parameter, total in zip(replayed.optimizer.parameters, replayed.optimizer.sums, strict=True):
            total.add_(parameter.detach())
        replayed.optimizer.count_step()
        stepped.bias.grad = None
        stepped.optimizer.step()
    assert replayed.optimizer.steps == stepped.optimizer.steps == 3
    for ours, theirs in zip(replayed.averages(), stepped.averages(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_restart_keeps_the_tensors_that_a_captured_step_adds_to():
    toy = Toy()
    assert toy.optimizer.sums == []
    toy.optimizer.start_averaging()
    toy.steps(2)
    sums = toy.optimizer.sums
    toy.optimizer.start_averaging()
    assert all(before is after for before, after in zip(sums, toy.optimizer.sums, strict=True))
    assert not any(total.any() for total in sums)
