"""A weight or gradient that is no longer a finite number is noticed in its step, and named."""

import pytest
import torch
from own_loops import Trial
from storages import ON_KERNELS, gradient_of

from sparse_rnn import Diverged
from sparse_rnn.sparsity.divergence import Divergence

ADVICE = "lower the learning rate or clip the gradients."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["active", "inactive", "bias"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_gradient_that_is_not_finite(optimizer, where, value):
    if ON_KERNELS and where == "inactive":
        pytest.skip("inactive entries have no gradient")
    trial = Trial(lambda p: getattr(torch.optim, optimizer)(p, 0.1))
    trial.step()
    weight = trial.sparsifier.topology["head.weight"]
    trial.backward()
    if where == "bias":
        name = "head.bias"
        trial.model.head.bias.grad[1] = value
    else:
        name = "head.weight"
        row, column = (weight.mask == (where == "active")).nonzero()[0]
        gradient = gradient_of(weight)
        gradient[row, column] = value
        weight.parameter.grad = weight.storage.stored(gradient)
    trial.sparsifier.before_step()
    trial.optimizer.step()
    with pytest.raises(Diverged, match=rf"^{name} became (nan|inf) in step 2: {ADVICE}$"):
        trial.sparsifier.after_step()
    if where != "bias":
        with pytest.raises(Diverged, match=rf"^head.weight holds (nan|inf): {ADVICE}$"):
            trial.sparsifier.check()


def test_weights_that_are_not_finite():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    trial.step()
    trial.step()
    with torch.no_grad():
        trial.model.embedding.weight.view(-1)[0] = float("inf")
    with pytest.raises(Diverged, match=rf"^embedding.weight holds inf: {ADVICE}$"):
        trial.sparsifier.check()
    with pytest.raises(Diverged, match=rf"^embedding.weight became (inf|nan) in step 3: {ADVICE}$"):
        trial.step()


@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_growth_reads_no_gradient_that_is_not_finite(method):
    """Even where the optimizer moves no weight by it."""
    trial = Trial(lambda p: torch.optim.SGD(p, 0.0), method=method)
    for _ in range(3):
        trial.step()
    trial.backward()
    trial.model.head.weight.grad.view(-1)[0] = float("nan")
    trial.sparsifier.before_step()
    trial.model.head.weight.grad.nan_to_num_()
    trial.optimizer.step()
    with pytest.raises(
        Diverged, match=r"^The gradient of head\.weight became nan in step 4: lower the learning rate\.$"
    ):
        trial.sparsifier.after_step()


def test_a_diverging_run_ends():
    trial = Trial(lambda p: torch.optim.SGD(p, 1e10, weight_decay=1.0), steps=1000)

    def train() -> None:
        for _ in range(50):
            trial.step()

    with pytest.raises(Diverged, match=rf"^[\w.]+ became (nan|inf) in step \d+: {ADVICE}$"):
        train()


def test_on_a_device_that_is_read_now_and_then(monkeypatch):
    """The step that is named is the one in which it began."""
    parameter = torch.nn.Parameter(torch.ones(3))
    watched = Divergence({"weight": parameter})
    read = Divergence.read
    monkeypatch.setattr(Divergence, "read", lambda self, device_type=None: None if device_type else read(self))
    for step in range(1, 50):
        if step == 7:
            parameter.data[1] = float("nan")
        watched.look(step)
    with pytest.raises(Diverged, match=r"^weight became nan in step 7: "):
        watched.look(50)


def test_large_numbers_are_numbers():
    parameter = torch.nn.Parameter(torch.full((3,), 1e30))
    watched = Divergence({"weight": parameter})
    for step in (1, 2):
        watched.look(step)
    half = Divergence({"weight": torch.nn.Parameter(torch.full((300,), 6e4, dtype=torch.float16))})
    half.look(1)
