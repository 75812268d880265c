"""Training on a CUDA device that is not there: tensors have shapes, types and a device, but no values.

torch's FakeTensorMode refuses operations on tensors of different devices. A build of torch without CUDA lacks three
things for it, which are added here: a device guard, an engine for backward passes and the shapes of fused SGD.
"""

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import BackwardCFunction

from sparse_rnn.backends.cpu.toolchain import find_compiler
from sparse_rnn.sparsity.method import initial_counts
from sparse_rnn.sparsity.sparsifier import Sparsifier

DEVICE = torch.device("cuda:0")
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>) }
"""


def register_guard(folder: Path) -> None:
    """Let torch switch to CUDA devices without doing anything; skips the test without a compiler."""
    if torch.version.cuda or torch.version.hip:
        torch._C._ensureCUDADeviceGuardSet()
        return
    compiler, _ = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    home = Path(torch.__file__).parent
    (folder / "guard.cpp").write_text(GUARD)
    made = ["-shared", "-fPIC", "-std=c++20", f"-I{home}/include", f"-L{home}/lib", "-lc10"]
    subprocess.run([compiler, "guard.cpp", *made, "-o", "guard.so"], cwd=folder, check=True)
    ctypes.CDLL(str(folder / "guard.so"))


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While entered, tensors are fake, and a model moves to `DEVICE`, trains and is sparse without values."""
    shapes = torch.library.Library("aten", "IMPL")
    shapes.impl("_fused_sgd_", lambda *arguments, **named: None, "Meta")
    with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(nn.Module, "to", moved)
        patch.setattr(torch.autograd, "backward", backward)
        patch.setattr(Sparsifier, "_draw_topology", all_active)
        yield
    shapes._destroy()


def moved(model: nn.Module, device: torch.device) -> nn.Module:
    """What Module.to does; it cannot exchange fake parameters. Tied ones stay tied."""
    new: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False, remove_duplicate=False)]:
            if parameter not in new:
                new[parameter] = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
            setattr(module, name, new[parameter])
        for name, buffer in [*module.named_buffers(recurse=False)]:
            setattr(module, name, buffer.to(device))
    return model


def all_active(sparsifier: Sparsifier, seed: int) -> None:
    """In place of drawing the first topology, which selects by value."""
    counts = initial_counts(sparsifier.config, sparsifier.topology)
    sparsifier.topology.mask_weights()
    sparsifier._target = sum(count for _, count in counts)


@torch.no_grad()
def backward(loss: torch.Tensor) -> None:
    """Accumulate gradients by calling the nodes of the graph one by one; torch's own engine asks for a real device."""
    gradients = {loss.grad_fn: {0: torch.ones_like(loss)}}
    for node in reversed(in_order_of_forward(loss.grad_fn)):
        given = gradients.pop(node, {})
        if hasattr(node, "variable"):
            grad = node.variable.grad
            node.variable.grad = given[0] if grad is None else grad + given[0]
        elif given:
            for (following, index), gradient in results_of(node, given):
                known = node_input(following, index)
                assert gradient.device == known.device, f"{node} gives a gradient on {gradient.device}"
                own, gradient = gradients.setdefault(following, {}), gradient.sum_to_size(known.shape)
                own[index] = own[index] + gradient if index in own else gradient


def in_order_of_forward(last):
    """All nodes that `last` depends on, and itself, each after those that it depends on."""
    order, seen, waiting = [], set(), [(last, False)]
    while waiting:
        node, expanded = waiting.pop()
        if expanded:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend((following, False) for following, _ in node.next_functions if following is not None)
    return order


def results_of(node, given):
    """The gradients that a node passes on, each with the node and the input that it is for."""
    arguments = [given.get(index) for index in range(len(node._input_metadata))]
    if not isinstance(node, BackwardCFunction):
        made, following = node(*arguments), node.next_functions
    else:  # a function in Python: it gets zeros for missing gradients, and answers for inputs that are no tensors too
        zeros = (torch.zeros(m.shape, dtype=m.dtype, device=m.device) for m in node._input_metadata)
        arguments = [zero if given is None else given for given, zero in zip(arguments, zeros, strict=True)]
        made = node.apply(*arguments)
        made = [one for one, needed in zip(tuple_of(made), node.needs_input_grad, strict=False) if needed]
        following = [each for each in node.next_functions if each[0] is not None]
    pairs = zip(following, tuple_of(made), strict=True)
    return [(to, gradient) for to, gradient in pairs if to[0] is not None and gradient is not None]


def tuple_of(made):
    """What a node returned, as a sequence."""
    return made if isinstance(made, list | tuple) else (made,)


def node_input(node, index):
    """Shape and device of what a node takes."""
    return node._input_metadata[index]
