"""The mixture's loss on a CUDA device that is not there."""

from collections import Counter

import pytest
import torch
from fake_cuda import DEVICE, register_guard
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rnn.models.layers.mixture import mixture_cross_entropy

TOKENS, EXPERTS, WIDTH, WORDS = 350, 15, 300, 33_278
PADDED = 33_280


class Results(TorchDispatchMode):
    """Counts operations and, of each type, the entries of the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest = Counter[str](), Counter[torch.dtype]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest[tensor.dtype] = max(self.largest[tensor.dtype], tensor.numel())
        return result


@pytest.fixture(scope="module", autouse=True)
def _guard(tmp_path_factory):
    register_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def product_type(request):
    """With and without autocast, which its context manager refuses to enable without a device."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", request.param == torch.bfloat16)
    yield request.param
    torch.set_autocast_enabled("cuda", False)


def test_the_paper_s_sub_batch_is_one_chunk_and_nothing_is_read_on_the_host(product_type):
    """5 sequences of 70 tokens, WikiText-2's vocabulary. All gradients are formed in the forward pass."""
    with FakeTensorMode(), Results() as seen:
        shapes = (TOKENS, EXPERTS, WIDTH), (TOKENS, EXPERTS), (WORDS, WIDTH), (WORDS,)
        inputs = [torch.zeros(shape, device=DEVICE, requires_grad=True) for shape in shapes]
        loss = mixture_cross_entropy(*inputs, torch.zeros(TOKENS, dtype=torch.int64, device=DEVICE))
    assert (loss.device, loss.dtype, loss.requires_grad) == (DEVICE, torch.float32, True)
    assert {name: seen.calls[name] for name in ("addmm", "mm", "mv")} == {"addmm": 1, "mm": 2, "mv": 1}
    assert seen.largest[product_type] == TOKENS * EXPERTS * PADDED
    assert not {"_local_scalar_dense", "nonzero"} & set(seen.calls)
