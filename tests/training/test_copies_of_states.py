"""What is copied to write a checkpoint beside training: each tensor once."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rnn.config.compose import compose_run
from sparse_rnn.sparsity.checkpoint_format import saved_states
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.training.assembly import make_optimizer
from sparse_rnn.training.checkpoint import on_host


class Copies(TorchDispatchMode):
    """Counts copies, and the bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator in (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default):
            self.sizes.append(args[0].nbytes)
        return operator(*args, **(kwargs or {}))


def copies_of(state: Any) -> tuple[Any, list[int]]:
    with Copies() as copies:
        copied = on_host(state)
    return copied, copies.sizes


def tied() -> nn.Module:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "decoder": nn.Linear(3, 5)})
    model["decoder"].weight = model["embedding"].weight
    return model


def test_tied_weights_are_copied_once() -> None:
    state = tied().state_dict()
    copied, sizes = copies_of({"model": state, "hidden": [state["decoder.bias"]]})
    assert sorted(sizes) == [5 * 4, 15 * 4]
    assert copied["model"]["embedding.weight"] is copied["model"]["decoder.weight"]
    assert copied["hidden"][0] is copied["model"]["decoder.bias"]


def test_on_a_gpu_too() -> None:
    with FakeTensorMode(), Copies() as copies:
        weight = nn.Parameter(torch.ones(5, 3, device="cuda"))
        copied = on_host({"embedding.weight": weight.detach(), "decoder.weight": weight.detach()})
    assert copied["embedding.weight"].device.type == "cpu"
    assert copied["embedding.weight"] is copied["decoder.weight"]
    assert copies.sizes == [15 * 4]


def test_other_views_of_the_same_memory_are_other_tensors() -> None:
    whole = torch.arange(6.0)
    views = {"first": whole[:3], "second": whole[3:], "both": whole, "turned": whole.view(2, 3).t(), "again": whole[3:]}
    copied, sizes = copies_of(views)
    assert len(sizes) == 4
    for name, view in views.items():
        assert torch.equal(copied[name], view), name
    assert copied["again"] is copied["second"]


@pytest.mark.parametrize("keep_dense", ["[]", "[embedding.weight]"])
@pytest.mark.parametrize("model", ["rhn", "on_lstm"])
def test_a_checkpoint_holds_a_tied_weight_once(model: str, keep_dense: str) -> None:
    """Sparse or dense; and it is read back for both names."""
    run = compose_run([f"model={model}", "dataset=pydoc", "budget=smoke", f"sparsifier.keep_dense={keep_dense}"])
    built = run.model.build(50)
    topology = make_topology(run.sparsifier, built)
    state = on_host(saved_states(built, make_optimizer(run, built), topology))
    assert state["model"]["embedding.weight"] is state["model"]["decoder.weight"]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    again: dict[str, Tensor] = torch.load(file, weights_only=True)["model"]
    assert torch.equal(
        again["embedding.weight"], built.get_parameter("embedding.weight").detach().view_as(again["decoder.weight"])
    )
