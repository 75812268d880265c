"""Torch's recurrent modules on the kernels against themselves with masked dense weights, with all of their options."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from kernel_checks import assert_near, real
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from sparse_rnn.backends.cpu import recurrent
from sparse_rnn.backends.cpu.convert import SPARSE, unsupported, use_sparse_kernels
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.sparsity.topology import SparseTopology

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "tanh": nn.RNNCell,
    "relu": lambda *sizes, **options: nn.RNNCell(*sizes, nonlinearity="relu", **options),
}
WINDOWS = [(20, 7, 40, 56), (3, 4, 10, 7), (70, 3, 30, 33), (1, 1, 8, 150), (130, 2, 9, 1)]
LENGTHS = [(5, 5, 3, 3, 1), (2, 7, 1, 7, 4, 3), tuple(1 + 3 * n % 8 for n in range(70))]
layers, cells = pytest.mark.parametrize("kind", LAYERS), pytest.mark.parametrize("kind", CELLS)


def both(dense: nn.Module, density: float = 0.4, *, keep_dense: str = "") -> tuple[nn.Module, nn.Module]:
    """A module with weights masked at random, and its copy on the kernels, watched; one weight may be kept dense."""
    sparse, structures = copy.deepcopy(dense), {}
    for name, parameter in sparse.named_parameters():
        if parameter.dim() == 2:
            mask = torch.rand_like(parameter) < (1 if name == keep_dense else density)
            dense.get_parameter(name).data.mul_(mask)
            structures[name] = structure = Structure(mask)
            structure.watch()
            if name != keep_dense:
                parameter.data = structure.pack(dense.get_parameter(name).detach())
    sparse.__dict__["structures"] = structures
    sparse.__class__ = getattr(recurrent, f"Sparse{type(dense).__name__}")
    return dense, sparse


def tensors(found: Any) -> Iterator[Tensor]:
    """All tensors of floating point in what a module returns."""
    if isinstance(found, Tensor):
        yield found
    else:
        yield from (each for part in found if part is not None for each in tensors(part) if each.is_floating_point())


def assert_same(dense: nn.Module, sparse: nn.Module, x: Any, hx: Any = None, *, calls: int = 1) -> None:
    """Compares outputs, states and all gradients; every call goes on with the state that the last one returned."""
    results = []
    for module in (dense, sparse):
        leaves = [each.detach().clone().requires_grad_() for each in tensors([x, hx])]
        own_x, own_hx = _like((x, hx), iter(leaves))
        torch.manual_seed(5)
        found, state = [], own_hx
        for _ in range(calls):
            returned = module(own_x, state)
            state = returned if isinstance(module, nn.RNNCellBase) else returned[1]
            found += tensors(returned)
        torch.manual_seed(6)
        torch.autograd.backward(sum((each * torch.randn_like(each)).sum() for each in found))  # type: ignore[arg-type]
        results.append((found, [leaf.grad for leaf in leaves]))
    (theirs, their_gradients), (ours, our_gradients) = results
    for one, other in zip([*ours, *our_gradients], [*theirs, *their_gradients], strict=True):
        assert_near(one, other)  # type: ignore[arg-type]
    _assert_same_gradients(dense, sparse)


def _like(given: Any, leaves: Iterator[Tensor]) -> Any:
    if isinstance(given, PackedSequence):
        return given._replace(data=next(leaves))
    if isinstance(given, tuple):
        return tuple(_like(part, leaves) for part in given)
    return None if given is None else next(leaves)


def _assert_same_gradients(dense: nn.Module, sparse: Any) -> None:
    for name, parameter in sparse.named_parameters():
        theirs = dense.get_parameter(name).grad
        assert parameter.grad is not None
        assert theirs is not None
        if name in sparse.structures:
            structure = sparse.structures[name]
            assert_near(parameter.grad, structure.pack(theirs) if parameter.dim() == 1 else theirs)
            formed = torch.zeros_like(theirs)
            for contribution in structure.take_contributions():
                contribution.add_to(formed)
            assert_near(formed, theirs)
        else:
            assert_near(parameter.grad, theirs)


def states_of(module: Any, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    states = tuple(torch.randn(*shape, dtype=dtype) for _ in range(1 + isinstance(module, nn.LSTM | nn.LSTMCell)))
    return states if len(states) > 1 else states[0]


@real
@layers
@pytest.mark.parametrize(("batch", "steps", "inputs", "hidden"), WINDOWS)
def test_a_layer(kind: str, batch: int, steps: int, inputs: int, hidden: int, dtype: torch.dtype) -> None:
    dense, sparse = both(LAYERS[kind](inputs, hidden).to(dtype))
    x = torch.randn(steps, batch, inputs, dtype=dtype)
    assert_same(dense, sparse, x, states_of(dense, 1, batch, hidden, dtype=dtype), calls=2)


@layers
@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2},
        {"num_layers": 2, "dropout": 0.4},
        {"num_layers": 2, "dropout": 1.0},
        {"num_layers": 2, "bidirectional": True, "dropout": 0.4, "batch_first": True},
        {"bidirectional": True},
        {"batch_first": True},
        {"bias": False},
        {"num_layers": 2, "bias": False, "bidirectional": True},
    ],
    ids=lambda options: ",".join(options),
)
@pytest.mark.parametrize("training", [True, False])
def test_options_of_layers(kind: str, options: dict[str, Any], training: bool) -> None:
    dense, sparse = both(LAYERS[kind](6, 9, **options).double().train(training))
    x = torch.randn(4, 5, 6).double()
    batch = 4 if "batch_first" in options else 5
    places = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    assert_same(dense, sparse, x, states_of(dense, places, batch, 9, dtype=torch.float64))
    dense.zero_grad()
    sparse.zero_grad()
    assert [each.shape for each in tensors(sparse(x))] == [each.shape for each in tensors(dense(x))]


@real
@layers
@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} sequences")
@pytest.mark.parametrize("given", [True, False], ids=["hx", "no hx"])
def test_packed_sequences(kind: str, lengths: tuple[int, ...], given: bool, dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "dropout": 0.3}
    dense, sparse = both(LAYERS[kind](6, 9, **options).to(dtype))
    padded = torch.randn(max(lengths), len(lengths), 6, dtype=dtype)
    x = pack_padded_sequence(padded, torch.tensor(lengths), enforce_sorted=False)
    assert_same(dense, sparse, x, states_of(dense, 4, len(lengths), 9, dtype=dtype) if given else None)
    theirs, ours = dense(x)[0], sparse(x)[0]
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field))


@layers
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bidirectional": True}], ids=["plain", "both ways"])
def test_a_single_sequence_without_batch(kind: str, options: dict[str, bool]) -> None:
    dense, sparse = both(LAYERS[kind](6, 9, **options).double())
    x = torch.randn(4, 6).double()
    assert_same(dense, sparse, x, states_of(dense, 1 + len(options) // 2, 9, dtype=torch.float64))


@real
@cells
@pytest.mark.parametrize("batch", [1, 20, 70])
def test_a_cell(kind: str, batch: int, dtype: torch.dtype) -> None:
    dense, sparse = both(CELLS[kind](6, 9).to(dtype))
    assert_same(dense, sparse, torch.randn(batch, 6, dtype=dtype), states_of(dense, batch, 9, dtype=dtype), calls=3)


@cells
@pytest.mark.parametrize("given", [True, False], ids=["hx", "no hx"])
def test_a_cell_without_bias_or_batch(kind: str, given: bool) -> None:
    dense, sparse = both(CELLS[kind](6, 9, bias=False).double())
    assert_same(dense, sparse, torch.randn(6).double(), states_of(dense, 9, dtype=torch.float64) if given else None)


@layers
def test_a_weight_that_is_kept_dense(kind: str) -> None:
    dense, sparse = both(LAYERS[kind](6, 9).double(), keep_dense="weight_hh_l0")
    assert_same(dense, sparse, torch.randn(4, 5, 6).double())


@layers
def test_gradients_against_finite_differences(kind: str) -> None:
    dense = LAYERS[kind](2, 3, bidirectional=True).double()
    _, sparse = both(dense)
    x = pack_padded_sequence(torch.randn(3, 2, 2).double(), torch.tensor([3, 2]))
    names, parameters = zip(*sparse.named_parameters(), strict=True)

    def function(data: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, values, strict=True))
        return tuple(tensors(torch.func.functional_call(sparse, named, (x._replace(data=data),))))

    given = [each.detach().clone().requires_grad_() for each in (x.data, *parameters)]
    assert torch.autograd.gradcheck(function, given)


@layers
@pytest.mark.parametrize(
    ("x", "hx"),
    [
        ((4, 5, 7), None),
        ((5,), None),
        ((4, 5, 6), (5, 9)),
        ((4, 6), (1, 1, 9)),
        ((4, 5, 6), (1, 4, 9)),
        ((4, 5, 6), (2, 5, 9)),
    ],
)
def test_shapes_that_do_not_fit_are_refused_as_torch_does(
    kind: str, x: tuple[int, ...], hx: tuple[int, ...] | None
) -> None:
    modules, said = both(LAYERS[kind](6, 9)), []
    for module in modules:
        with pytest.raises((RuntimeError, ValueError)) as error:
            module(torch.ones(x), None if hx is None else states_of(module, *hx))
        said.append((type(error.value), str(error.value)[:40]))
    assert said[0] == said[1]


@layers
def test_a_module_of_the_class_is_handled_as_before(kind: str) -> None:
    """Cast, moved, flattened and printed, and called with names."""
    dense, sparse = both(LAYERS[kind](6, 9))
    sparse.flatten_parameters()
    sparse.double().to("cpu")
    x = torch.randn(4, 5, 6).double()
    assert_near(sparse(input=x, hx=None)[0], dense.double()(x)[0])
    assert str(sparse) == f"Sparse{dense}"


@pytest.mark.parametrize(
    "dense",
    [dense for dense in SPARSE if issubclass(dense, nn.RNNBase | nn.RNNCellBase)],
    ids=lambda dense: f"{dense.__module__}.{dense.__name__}",
)
def test_conversion_keeps_a_module_and_its_parameters(dense: Callable[..., nn.Module]) -> None:
    model = nn.ModuleDict({"rnn": dense(6, 9)})
    before, parameters = model["rnn"], list(model.parameters())
    use_sparse_kernels(model, SparseTopology.of(model))
    after: Any = model["rnn"]
    assert after is before
    assert type(after) is SPARSE[dense]  # type: ignore[index]
    assert after.structures.keys() == {name for name, each in after.named_parameters() if name.startswith("weight")}
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))


def test_projections_are_refused() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, proj_size=2))
    assert recurrent.SparseLSTM.refused(model[0])
    assert set(unsupported(model, SparseTopology.of(model))) == {f"0.weight_{of}_l0" for of in ("ih", "hh", "hr")}
