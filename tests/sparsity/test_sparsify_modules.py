"""Modules that cannot be kept sparse, each refused in one sentence, and those that look odd and can."""

import pytest
import torch
from sparsify_loop import make
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from sparse_rnn import ConfigError, StepSparsifier, sparsify

SETTINGS = {"sparsity": 0.5, "steps": 20, "update_interval": 4}


def call(module: nn.Module, **settings: object):
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters or [nn.Parameter(torch.ones(1))], 0.1)
    return sparsify(module, optimizer, **{**SETTINGS, **settings})


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def with_head(change) -> nn.Module:
    model = make("gru")
    change(model)
    return model


def of_type(dtype: torch.dtype) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(
        torch.ones(4, 4, dtype=dtype), requires_grad=dtype.is_floating_point or dtype.is_complex
    )
    return module


def views(first, second) -> nn.Module:
    module = nn.Module()
    module.first, module.second = nn.Parameter(first), nn.Parameter(second)
    return module


def overlapping() -> nn.Module:
    memory = torch.randn(30)
    return views(memory[:20].view(4, 5), memory[15:].view(3, 5))


def transposed() -> nn.Module:
    weight = torch.randn(4, 5)
    return views(weight, weight.T)


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 4)


def holding(value: float) -> nn.Module:
    module = nn.Linear(4, 4)
    with torch.no_grad():
        module.weight[1, 2] = value
    return module


OLD = "ignore:.*is deprecated:FutureWarning"
WEIGHT_NORM = (
    "belongs to weight_norm, which computes the weight from it: remove weight_norm before sparsify, or name it"
)
REFUSED = {
    "weight_norm": (
        lambda: with_head(lambda m: parametrizations.weight_norm(m.head)),
        f"head.parametrizations.weight.original0 {WEIGHT_NORM} in keep_dense.",
    ),
    "old weight_norm": (
        lambda: with_head(lambda m: nn.utils.weight_norm(m.head)),
        f"head.weight_g {WEIGHT_NORM} in keep_dense.",
    ),
    "weight_norm of an RNN": (
        lambda: with_head(lambda m: nn.utils.weight_norm(m.encoder, "weight_hh_l0")),
        f"encoder.weight_hh_l0_g {WEIGHT_NORM} in keep_dense.",
    ),
    "spectral_norm": (
        lambda: with_head(lambda m: parametrizations.spectral_norm(m.head)),
        "head.parametrizations.weight.original belongs to spectral_norm, which",
    ),
    "old spectral_norm": (
        lambda: with_head(lambda m: nn.utils.spectral_norm(m.head)),
        "head.weight_orig belongs to spectral_norm, which",
    ),
    "orthogonal": (
        lambda: with_head(lambda m: parametrizations.orthogonal(m.head)),
        "head.parametrizations.weight.original belongs to orthogonal, which",
    ),
    "parametrize": (
        lambda: with_head(lambda m: parametrize.register_parametrization(m.head, "weight", Halved())),
        "head.parametrizations.weight.original belongs to the parametrisation Halved, which",
    ),
    "prune": (
        lambda: with_head(lambda m: prune.l1_unstructured(m.head, "weight", 0.5)),
        "head.weight_orig belongs to torch's pruning, which",
    ),
    "prune twice": (
        lambda: with_head(
            lambda m: [prune.l1_unstructured(m.head, "weight", 0.5), prune.ln_structured(m.head, "weight", 0.5, 2, 0)]
        ),
        "head.weight_orig belongs to torch's pruning, which",
    ),
    "lazy": (lambda: nn.LazyLinear(4), "weight has no shape yet: run a batch through the module before sparsify."),
    "meta": (lambda: nn.Linear(4, 4, device="meta"), "weight is on the meta device and has no values: load them, or "),
    "complex": (lambda: of_type(torch.complex64), "weight is of type complex64: make it a float first, or name it in "),
    "int8": (lambda: of_type(torch.int8), "weight is of type int8: make it a float first, or name it in keep_dense."),
    "float8": (lambda: of_type(torch.float8_e4m3fn), "weight is of type float8_e4m3fn: make it a float first, or "),
    "csr": (
        lambda: with_head(lambda m: setattr(m.head, "weight", nn.Parameter(torch.eye(4, 16).to_sparse_csr()))),
        "head.weight is stored as sparse_csr: make it dense first, or name it in keep_dense.",
    ),
    "sparse gradients": (
        lambda: nn.Embedding(4, 4, sparse=True),
        "weight has sparse gradients: make its embedding with sparse=False, or name it in keep_dense.",
    ),
    "scripted": (
        lambda: torch.jit.script(nn.Linear(4, 4)),
        "module is, or holds, TorchScript: call sparsify before the module is scripted.",
    ),
    "inference": (made_in_inference_mode, "weight was made in inference mode and cannot be trained: "),
    "overlapping": (
        overlapping,
        "first and second are views of the same entries: make them one parameter, or clone one.",
    ),
    "transposed": (transposed, "first and second are views of the same entries: "),
    "repeated": (
        lambda: views(torch.randn(1, 4).expand(4, 4), torch.randn(4, 4)),
        "first repeats its entries in memory: clone it, or name it in keep_dense.",
    ),
    "nan": (lambda: holding(float("nan")), "weight holds nan: sparsify needs finite weights."),
    "inf": (lambda: holding(float("-inf")), "weight holds inf: sparsify needs finite weights."),
    "no weights": (lambda: nn.BatchNorm1d(4), "BatchNorm1d has no weight of two or more dimensions to make sparse."),
    "empty weights": (lambda: nn.Linear(0, 4), "Linear has no weight of two or more dimensions to make sparse."),
    "no parameters": (nn.ReLU, "ReLU has no weight of two or more dimensions to make sparse."),
}


@pytest.mark.filterwarnings(OLD, "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_kept_sparse_is_refused(kind):
    make_module, sentence = REFUSED[kind]
    with pytest.raises(ConfigError) as caught:
        call(make_module())
    said = str(caught.value)
    assert said == sentence if sentence.endswith(".") else said.startswith(sentence)
    assert said.endswith(".")
    assert "\n" not in said


def test_a_quantised_module_has_no_weight_to_train():
    engine = getattr(torch.ao.quantization, "quantize_dynamic", None)
    if (
        engine is None
        or "none" in torch.backends.quantized.supported_engines[:1]
        or not hasattr(torch.ao.nn, "quantized")
    ):
        pytest.skip("this torch quantises nothing")
    module = engine(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ConfigError, match=r"^Sequential has no weight of two or more dimensions"):
        call(module)


@pytest.mark.filterwarnings(OLD)
@pytest.mark.parametrize("kind", ["weight_norm", "old weight_norm", "spectral_norm", "old spectral_norm", "prune"])
def test_what_is_kept_dense_may_be_anything(kind):
    module = REFUSED[kind][0]()
    sparsifier = call(module, keep_dense=["head.*"])
    module(torch.randint(4, (3, 2))).sum().backward()
    sparsifier.before_step()
    sparsifier.optimizer.step()
    sparsifier.after_step()
    sparsifier.check()


def side_by_side() -> nn.Module:
    """Two parameters in one storage, as cuDNN lays them out."""
    memory = torch.randn(40)
    return views(memory[:20].view(4, 5), memory[20:].view(4, 5))


def columns() -> nn.Module:
    """The halves of each row: their ranges overlap in memory, and they share no entry."""
    memory = torch.randn(4, 10)
    return views(memory[:, :5], memory[:, 5:])


def with_an_empty_weight() -> nn.Module:
    return views(torch.randn(4, 4), torch.randn(4, 0))


def tied() -> nn.Module:
    module = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 4))
    module[1].weight = module[0].weight
    return module


def strided() -> nn.Module:
    return views(torch.randn(5, 4).T, torch.randn(3, 4, 5))


def train(module: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: StepSparsifier, steps: int) -> None:
    """Take steps along random gradients, each of which must leave the module sparse."""
    for _ in range(steps):
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
        sparsifier.check()


@pytest.mark.parametrize("make_module", [side_by_side, columns, with_an_empty_weight, tied, strided])
@pytest.mark.parametrize("method", ["selfish", "set", "rigl", "dsr", "snfs", "gmp"])
def test_odd_weights_that_can_be_kept_sparse(make_module, method):
    module = make_module()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    sparsifier = sparsify(module, optimizer, **SETTINGS, method=method)
    assert all(weight.size for weight in sparsifier.topology)
    train(module, optimizer, sparsifier, 20)
    assert sparsifier.topology.active == round(0.5 * sparsifier.topology.size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["selfish", "rigl", "snfs"])
def test_weights_of_other_precisions(dtype, method):
    module = views(torch.randn(8, 8).to(dtype), torch.randn(8, 4).to(dtype))
    optimizer = torch.optim.SGD(module.parameters(), 0.01, momentum=0.9)
    sparsifier = sparsify(module, optimizer, **SETTINGS, method=method)
    train(module, optimizer, sparsifier, 8)
    assert sparsifier.topology.active == 48
