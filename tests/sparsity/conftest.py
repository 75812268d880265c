"""Small topologies to work rules out by hand on, and a training loop like the trainer's."""

from collections.abc import Callable, Sequence

import pytest
import torch
from storages import ON_KERNELS, as_tested
from torch import Tensor, nn

from sparse_rnn.backends.choice import obstacle
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.groups import Group, groups_of
from sparse_rnn.sparsity.method import SparsifierConfig, make_topology
from sparse_rnn.sparsity.rules.initial import saliency_of
from sparse_rnn.sparsity.sparsifier import Clock, UpdateReport
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier


def make_weight(
    values: Sequence[float],
    *,
    name: str = "w",
    gates: Sequence[str] = ("all",),
    columns: int = 2,
    cell: str | None = None,
) -> SparseWeight:
    """A masked weight of `columns` columns whose zeros are inactive; its rows divide equally into `gates`."""
    parameter = nn.Parameter(torch.tensor(values).reshape(-1, columns))
    rows = parameter.shape[0] // len(gates)
    slices = {gate: slice(k * rows, (k + 1) * rows) for k, gate in enumerate(gates)}
    return SparseWeight(name, parameter, parameter.detach() != 0, slices, cell)


@pytest.fixture
def weight_of() -> Callable[..., SparseWeight]:
    return make_weight


@pytest.fixture
def group_of() -> Callable[..., Group]:
    """One group of one weight, see `make_weight`, stored as is tested."""

    def make(values: Sequence[float], **settings: object) -> Group:
        weight = as_tested(make_weight(values, **settings))  # type: ignore[arg-type]
        return groups_of(SparseTopology([weight]), "tensor")[0]

    return make


@pytest.fixture
def method() -> Callable[..., SparsifierConfig]:
    """A method's configuration, with the settings that a recipe would give."""

    def make(**settings: object) -> SparsifierConfig:
        neutral = {"name": "test", "sparsity": 0.5, "removal_rate": 0.5, "final_rate": 0.0}
        return SparsifierConfig(**(neutral | settings))  # type: ignore[arg-type]

    return make


class Training:
    """A small language model in training, `batches` steps per epoch; the order of calls is that of the trainer.

    In `make test-backend` on the kernels; what these refuse is skipped.
    """

    batches = 3

    def __init__(self, run: Run, epochs: int = 4) -> None:
        torch.manual_seed(run.init_seed)
        self.run, self.epochs, self.step_count = run, epochs, 0
        self.model = run.model.build(23)
        self.topology = make_topology(run.sparsifier, self.model)
        device = torch.device("cpu")
        reason = obstacle(run.sparsifier, run.growth, run.optimizer, run.protocol, self.model, self.topology, device)
        if ON_KERNELS and reason:
            pytest.skip(reason)
        self.optimizer = make_optimizer(run, self.model)
        scored = saliency_of(run.sparsifier.initial) is not None  # magnitudes stand in for scores
        scores = {weight.name: weight.values.abs() for weight in self.topology} if scored else None
        self.sparsifier = make_sparsifier(run, self.topology, self.optimizer, scores)
        if ON_KERNELS:
            use_sparse_kernels(self.model, self.topology)
        self.data = torch.randint(23, (epochs * self.batches, 7, 4), generator=torch.Generator().manual_seed(5))

    @property
    def clock(self) -> Clock:
        return self.clock_at(self.step_count)

    def clock_at(self, step: int) -> Clock:
        epoch, batch = divmod(max(step - 1, 0), self.batches)
        return Clock(step, epoch, self.epochs, batch + 1, self.batches)

    @property
    def values(self) -> dict[str, Tensor]:
        """All parameters by name, without gradient, with every entry."""
        sparse = {weight.name: weight.values for weight in self.topology}
        return {name: p.detach() for name, p in self.model.named_parameters()} | sparse

    def loss(self, model: nn.Module) -> Tensor:
        """The loss of the coming step's minibatch."""
        tokens = self.data[self.step_count]
        output, _ = model(tokens[:-1], model.initial_hidden(4))
        return model.loss(output, tokens[1:])

    def dense_gradients(self) -> dict[str, Tensor]:
        """Those of the coming step, by parameter name, of another network with the same weights and no masks."""
        other = self.run.model.build(23)
        other.load_state_dict(self.values)
        torch.autograd.backward(self.loss(other))
        return {name: p.grad for name, p in other.named_parameters()}

    def backward(self) -> None:
        """The gradients of the coming step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.sparsifier.before_backward(self.clock_at(self.step_count + 1))
        torch.autograd.backward(self.loss(self.model))

    def step(self) -> UpdateReport | None:
        """What follows `backward`; returns the report of an update inside the loop."""
        self.move()
        return self.sparsifier.after_step(self.clock)

    def move(self) -> None:
        """The optimizer's step."""
        self.step_count += 1
        self.sparsifier.before_step(self.clock)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip)
        self.optimizer.step()

    def end_of_epoch(self, *, triggered: bool = False) -> UpdateReport | None:
        """What the trainer does after validation."""
        if triggered and isinstance(self.optimizer, AveragedSGD):
            self.optimizer.start_averaging()
        return self.sparsifier.after_epoch(self.clock, triggered=triggered)


@pytest.fixture
def training() -> Callable[..., Training]:
    """Compose overrides into a Training without dropout, so that gradients can be computed again."""

    def make(*overrides: str, epochs: int = 4) -> Training:
        common = ["budget=smoke", "model=stacked_lstm", "model.dropout=0", "model.hidden=8"]
        if "optimizer=adamw" in overrides:  # which the papers do not have
            common += ["recipe=none", "recipe.sparsity=0.67", "recipe.removal_rate=0.7"]
        return Training(compose_run([*common, *overrides]), epochs)

    return make
