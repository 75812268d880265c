"""What a checkpoint holds of weights and optimizers, and that training goes on from it as if nothing had happened."""

import io
from typing import Any

import pytest
import torch
from storages import masked_only
from torch import nn

from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.topology import SparseTopology

OPTIMIZERS = ("snt_asgd", "nt_asgd", "adam", "adamw", "momentum_sgd")
UPDATES = ("sparsifier=rigl", "sparsifier.update_interval=2")
TRIGGER = 1  # averaging starts after this epoch
EPOCHS = 4


def train(training: Any, steps: range) -> None:
    """Steps with an update every second one; averaging starts with the epoch TRIGGER."""
    for step in steps:
        training.backward()
        training.step()
        epoch, batch = divmod(step + 1, training.batches)
        if not batch:
            training.end_of_epoch(triggered=epoch == TRIGGER)


def states_of(training: Any) -> dict[str, Any]:
    """Through a file, as the trainer saves and restores them."""
    states = saved_states(training.model, training.optimizer, training.topology)
    file = io.BytesIO()
    torch.save(states | {"sparsifier": training.sparsifier.state_dict()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(training: Any, states: dict[str, Any], step: int) -> Any:
    training.sparsifier.load_state_dict(states["sparsifier"])
    load_states(training.model, training.optimizer, training.topology, states)
    training.step_count = step
    return training


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for each, its in zip(one, other, strict=True):
            assert_same(each, its)
    else:
        assert one == other


def evaluated(training: Any) -> dict[str, torch.Tensor]:
    """The averages, where there are any, and else the weights."""
    if not hasattr(training.optimizer, "averaged"):
        return training.values
    with training.optimizer.averaged():
        return {name: value.clone() for name, value in training.values.items()}


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(training, optimizer, protocol):
    """Stopped at the trigger, after the update of the next step, and later; then more updates follow."""
    overrides = (*UPDATES, f"optimizer={optimizer}", f"protocol={protocol}")
    last = EPOCHS * 3
    undisturbed = training(*overrides, epochs=EPOCHS)
    stops = {}
    for step in range(last):
        train(undisturbed, range(step, step + 1))
        stops[step + 1] = states_of(undisturbed)
    for stop in (3, 4, 9):
        other = resumed(training(*overrides, epochs=EPOCHS), stops[stop], stop)
        assert_same(states_of(other), stops[stop])
        train(other, range(stop, last))
        assert_same(states_of(other), stops[last])
        assert_same(evaluated(other), evaluated(undisturbed))


def dense_parts(training: Any) -> set[str]:
    """The kinds of tensors of sparse weights that are saved with all entries."""
    sparse = {id(weight.parameter): weight for weight in training.topology}
    states = states_of(training)
    dense = {"model" for weight in sparse.values() if states["model"][weight.name].shape == weight.shape}
    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        weight = sparse.get(id(parameter))
        averages = states["optimizer"].get("averages") or [{}] * len(parameters)
        for key, value in {**states["optimizer"]["state"].get(index, {}), **averages[index]}.items():
            if weight is not None and isinstance(value, torch.Tensor) and value.dim():
                assert value.shape in (weight.shape, (weight.active,))
                dense |= {key} if value.shape == weight.shape else set()
    return dense


@masked_only("the kernels store active entries alone")
@pytest.mark.parametrize(
    ("optimizer", "protocol", "expected"),
    [
        ("snt_asgd", "paper", set()),
        ("adam", "paper", set()),
        ("adamw", "paper", set()),
        ("momentum_sgd", "paper", set()),
        ("momentum_sgd", "official_code", set()),
        ("nt_asgd", "paper", {"total"}),  # sums of weights that were removed
        ("adam", "official_code", {"exp_avg", "exp_avg_sq"}),  # moments of dense gradients
        ("snt_asgd", "official_code", {"total", "since"}),
    ],
)
def test_active_entries_are_saved_where_the_others_are_zero(training, optimizer, protocol, expected):
    at_work = training(*UPDATES, f"optimizer={optimizer}", f"protocol={protocol}", epochs=EPOCHS)
    train(at_work, range(9))
    assert dense_parts(at_work) == expected


@masked_only("without sparsity there are no kernels")
def test_a_network_with_all_entries_is_saved_as_it_is(training):
    at_work = training("sparsifier=gmp", "optimizer=adam")
    train(at_work, range(1))
    weight = next(iter(at_work.topology))
    assert weight.active == weight.size
    saved = saved_states(at_work.model, at_work.optimizer, at_work.topology)["model"][weight.name]
    assert saved.data_ptr() == weight.parameter.data_ptr()


@masked_only("old checkpoints of masked runs were dense")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_checkpoints_with_dense_tensors_still_load(training, optimizer):
    overrides = (*UPDATES, f"optimizer={optimizer}")
    first = training(*overrides)
    train(first, range(8))
    old = {"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}
    old["sparsifier"] = first.sparsifier.state_dict()
    assert_same(states_of(resumed(training(*overrides), old, 8)), states_of(first))


def test_a_tensor_of_another_size_is_refused(training):
    at_work = training(*UPDATES, "optimizer=adam")
    train(at_work, range(4))
    states = states_of(at_work)
    name = next(iter(at_work.topology)).name
    states["model"][name] = torch.zeros(3)
    with pytest.raises(ValueError, match="has shape"):
        resumed(training(*UPDATES, "optimizer=adam"), states, 4)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_step_counters_stay_where_a_fresh_optimizer_has_them(optimizer):
    """Everything else moves to the weights' device: here, one that holds no data."""

    def made(device: str) -> tuple[nn.Module, torch.optim.Optimizer, SparseTopology]:
        model = nn.Linear(3, 5).to(device)
        return model, optimizer(model.parameters(), 0.1), SparseTopology.of(model)

    model, trained, topology = made("cpu")
    model(torch.ones(2, 3)).sum().backward()
    trained.step()
    states = saved_states(model, trained, topology)
    elsewhere, fresh, its_topology = made("meta")
    with pytest.warns(UserWarning, match="no-op"):  # what torch says of every copy to that device
        load_states(elsewhere, fresh, its_topology, states)
    state = fresh.state[elsewhere.weight]
    assert {key: str(value.device) for key, value in state.items()} == {
        "step": "cpu",
        "exp_avg": "meta",
        "exp_avg_sq": "meta",
    }
