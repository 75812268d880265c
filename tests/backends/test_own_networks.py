"""`sparsify(backend="sparse")`: somebody else's module trains on the kernels as it does with masks."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from own_networks import KINDS, OPTIMIZERS, Net, Run
from torch import nn

from sparse_rnn import ConfigError, sparsify
from sparse_rnn.backends import own_choice
from sparse_rnn.backends.cpu.compile import KernelsUnavailable
from sparse_rnn.backends.cpu.modules import SparseLinear
from sparse_rnn.backends.cpu.storage import Packed
from sparse_rnn.optim.averaged_sgd import AveragedSGD

METHODS = ("selfish", "rigl", "snfs", "set", "dsr", "st_rnn", "gmp", "static_er", "static_uniform")
# Every module with three methods and optimizers, every optimizer with two or three methods and modules.
CASES = [
    (kind, METHODS[(n + shift) % len(METHODS)], list(OPTIMIZERS)[(n + 4 * shift) % len(OPTIMIZERS)])
    for shift in range(3)
    for n, kind in enumerate(KINDS)
]


def assert_same(one: Run, other: Run) -> None:
    assert one.losses == pytest.approx(other.losses, rel=1e-9)
    for name, mask in one.masks.items():
        assert torch.equal(mask, other.masks[name]), name
    theirs = other.model.state_dict()
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value, theirs[name], rtol=1e-7, atol=1e-10), name


@pytest.mark.parametrize(("kind", "method", "optimizer"), CASES)
def test_training_is_that_of_masks(kind, method, optimizer):
    masked, sparse = (Run(kind, backend, optimizer, method=method).train(30) for backend in ("masked", "sparse"))
    assert (masked.sparsifier.backend, sparse.sparsifier.backend) == ("masked", "sparse")
    assert all(isinstance(weight.storage, Packed) for weight in sparse.sparsifier.topology)
    assert all(weight.parameter.shape == (weight.active,) for weight in sparse.sparsifier.topology)
    sparse.sparsifier.check()
    assert sparse.sparsifier.sparsity == masked.sparsifier.sparsity
    assert_same(masked, sparse)


@pytest.mark.parametrize("order", list(itertools.permutations(["model", "optimizer", "sparsifier"])), ids="-".join)
@pytest.mark.parametrize(("saved_by", "resumed_by"), [("sparse", "sparse"), ("sparse", "masked"), ("masked", "sparse")])
def test_states_are_restored_in_any_order_and_on_either_backend(saved_by, resumed_by, order):
    optimizer = list(OPTIMIZERS)[len("-".join(order)) * order.index("model") % len(OPTIMIZERS)]
    whole = Run("gru", saved_by, optimizer, method="rigl").train(30)
    part = Run("gru", saved_by, optimizer, method="rigl").train(13)
    file = io.BytesIO()
    torch.save({name: getattr(part, name).state_dict() for name in order}, file)
    file.seek(0)
    states = torch.load(file)
    resumed = Run("gru", resumed_by, optimizer, method="rigl", seed=6)  # another first topology
    resumed.sparsifier.seed = 1
    resumed.train(2)
    resumed.losses = list(part.losses)
    for name in order:
        getattr(resumed, name).load_state_dict(states[name])
    resumed.train(17)
    part.train(17)  # to which saving did nothing
    if resumed_by == saved_by:
        assert resumed.losses == whole.losses == part.losses
        theirs = whole.model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in resumed.model.state_dict().items())
    assert_same(whole, resumed)


def test_states_are_those_of_the_dense_module():
    run = Run("padded", "sparse").train(9)
    assert type(run.model.head) is not nn.Linear
    masks, values = run.masks, {weight.name: weight.values for weight in run.sparsifier.topology}
    state, moments = run.model.state_dict(), run.optimizer.state_dict()["state"]
    dense = Net("padded").double()
    dense.load_state_dict(state)
    optimizer = torch.optim.Adam(dense.parameters())
    optimizer.load_state_dict(run.optimizer.state_dict())
    for (name, parameter), own in zip(dense.named_parameters(), moments.values(), strict=True):
        assert own["exp_avg"].shape == parameter.shape
        if name in masks:
            assert torch.equal(parameter, values[name])
            assert not own["exp_avg"][~masks[name]].count_nonzero()
            assert own["exp_avg"][masks[name]].count_nonzero()
    assert not dense.embedding.weight.grad
    run.step()
    assert type(run.model.head) is not nn.Linear


def test_the_averages_of_averaged_sgd_are_dense_in_its_state():
    torch.manual_seed(2)
    model = nn.Linear(6, 8).double()
    optimizer = AveragedSGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=30, update_interval=3, backend="sparse")
    optimizer.start_averaging()
    for _ in range(7):
        optimizer.zero_grad()
        model(torch.randn(4, 6).double()).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
    assert model.weight.shape == (24,)
    with optimizer.averaged():
        average = model.state_dict()["weight"].clone()  # which makes the weights dense, while their raw values are kept
    assert model.weight.shape == (8, 6)
    assert not torch.equal(average, model.weight)
    assert optimizer.state_dict()["averages"][0]["total"].shape == (8, 6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("kind", ["lstm", "tied", "gru cell", "attention"])
def test_a_copy_is_torch_s_own_dense_module(kind, copied):
    run = Run(kind, "sparse").train(6)
    run.model.eval()
    tokens = torch.randint(11, (5, 7))
    expected = run.model(tokens)
    for _ in range(2):  # while it computes with active values, and after the first copy
        same = copied(run.model)
        assert [type(each) for each in same.modules()] == [type(each) for each in Net(kind).modules()]
        assert all("kernels" not in vars(each) for each in same.modules())
        assert torch.allclose(same(tokens), expected, atol=1e-12)
    if kind == "tied":
        assert same.head.weight is same.embedding.weight
    assert b"sparse_rnn" not in pickle.dumps(run.model.inner)
    run.train(2)


def test_without_its_sparsifier_a_module_is_as_it_was():
    run = Run("gru", "sparse").train(6)
    before = {weight.name: weight.values for weight in run.sparsifier.topology}
    del run.sparsifier
    assert [type(each) for each in run.model.modules()] == [Net, nn.Embedding, nn.GRU, nn.Linear]
    assert all(torch.equal(run.model.get_parameter(name), values) for name, values in before.items())
    assert all(type(parameter) is nn.Parameter for parameter in run.model.parameters())
    assert not run.optimizer._optimizer_state_dict_pre_hooks
    run.optimizer.zero_grad()
    run.loss(1).backward()
    run.optimizer.step()


def test_the_root_itself_and_references_stay():
    model = nn.GRU(4, 6)
    weight, alias = model.weight_hh_l0, model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, update_interval=3, backend="sparse")
    model(torch.randn(3, 2, 4))[0].sum().backward()
    sparsifier.before_step()
    optimizer.step()
    sparsifier.after_step()
    assert alias is model
    assert isinstance(model, nn.GRU)
    assert model.weight_hh_l0 is weight
    assert repr(model) == "SparseGRU(4, 6)"


def test_gradients_accumulate_and_have_the_norm_of_masked_ones():
    norms = []
    for backend in ("masked", "sparse"):
        run = Run("lstm", backend, "SGD", method="rigl", update_interval=1)
        for number in (1, 2, 3):
            run.loss(number).backward()
        run.sparsifier.before_step()
        norms.append(float(nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)))
        run.optimizer.step()
        run.sparsifier.after_step()
        norms.append(run.train(3).losses)
    assert norms[0] == pytest.approx(norms[2], rel=1e-12)
    assert norms[1] == pytest.approx(norms[3], rel=1e-9)


def a_step(run: Run, context) -> None:
    run.optimizer.zero_grad()
    with context:
        loss = run.loss(0)
    loss.backward()
    run.sparsifier.before_step()
    run.optimizer.step()
    run.sparsifier.after_step()


def test_under_autocast_it_computes_in_the_weights_type():
    run, plain = Run("lstm", "sparse"), Run("lstm", "sparse")
    a_step(run, torch.autocast("cpu", torch.bfloat16))
    a_step(plain, torch.autocast("cpu", enabled=False))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert run.loss(1).dtype == torch.float64
    assert float(run.loss(1).detach()) == pytest.approx(float(plain.loss(1).detach()), rel=1e-9)


@pytest.mark.parametrize("first", ["compile", "sparsify"])
def test_a_compiled_module_trains(first):
    torch._dynamo.reset()
    losses = []
    for compiled in (False, True):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        called = torch.compile(model, backend="eager") if compiled else model
        given = called if first == "compile" else model
        sparsifier = sparsify(given, optimizer, sparsity=0.5, steps=10, update_interval=2, backend="sparse")
        for number in range(6):
            optimizer.zero_grad()
            loss = called(torch.randn(5, 6, generator=torch.Generator().manual_seed(number))).square().mean()
            loss.backward()
            sparsifier.before_step()
            optimizer.step()
            sparsifier.after_step()
            losses.append(float(loss.detach()))
        assert isinstance(model[0], SparseLinear)
    assert losses[:6] == pytest.approx(losses[6:], rel=1e-5)


def test_inference_in_every_mode():
    run = Run("gru", "sparse").train(3)
    expected = float(run.loss(1).detach())
    run.model.eval()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert float(run.loss(1)) == expected
    run.model.state_dict()  # dense, and it stays so without training
    with torch.no_grad():
        assert float(run.loss(1)) == pytest.approx(expected, rel=1e-12)
    assert type(run.model.inner) is not nn.GRU
    assert run.model.inner.weight_hh_l0.dim() == 2


def test_a_layer_of_torch_s_transformer_in_evaluation():
    """Its fast path, which masks take, would read the weights of the layers inside it."""
    outputs = []
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(3))
    for backend in ("masked", "sparse"):
        torch.manual_seed(2)
        model = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        settings = {"sparsity": 0.5, "steps": 10, "update_interval": 2, "keep_dense": ["self_attn.in*"]}
        sparsifier = sparsify(model, optimizer, backend=backend, **settings)
        model(x).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
        model.eval()
        with torch.no_grad():
            outputs.append(model(x))
    assert isinstance(model.linear1, SparseLinear)
    assert torch.allclose(*outputs, atol=1e-5)


def test_another_type_is_masked_from_then_on():
    model = nn.Linear(6, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, update_interval=2, backend="sparse")
    for dtype, dimensions in ((torch.float32, 1), (torch.bfloat16, 2), (torch.float64, 1)):
        model.to(dtype)
        optimizer.zero_grad()
        model(torch.randn(4, 6, dtype=dtype)).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
        sparsifier.check()
        assert model.weight.dim() == dimensions


def test_writing_by_index_is_refused():
    run = Run("plain", "sparse").train(1)
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"^a weight on the kernels cannot be written to by index, .*load it\.$"),
    ):
        run.model.head.weight[0] = 0.0


def test_second_derivatives_are_refused():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=200, backend="sparse")
    x = torch.randn(3, 4, requires_grad=True)
    [gradient] = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
    assert sparsifier.backend == "sparse"


class Own(nn.Linear):
    pass


class Marked(nn.Parameter):
    pass


def with_a_marked_weight() -> nn.Module:
    model = nn.Linear(4, 4)
    model.weight = Marked(model.weight.detach())
    return model


REFUSED = {
    "a subclass": (
        lambda: nn.Sequential(Own(4, 4), nn.Linear(4, 4)),
        "0.weight (no kernel computes what Own does)",
    ),
    "two kinds": (
        lambda: nn.Sequential(nn.Bilinear(4, 4, 4), nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3)),
        "0.weight (no kernel computes what Bilinear does), 1.weight, 2.weight (no kernel computes what Conv1d does)",
    ),
    "max_norm": (lambda: nn.Embedding(4, 4, max_norm=1.0), "weight (the kernels have no max_norm of nn.Embedding)"),
    "scale_grad_by_freq": (
        lambda: nn.Embedding(4, 4, scale_grad_by_freq=True),
        "weight (the kernels have no scale_grad_by_freq of nn.Embedding)",
    ),
    "projections": (
        lambda: nn.LSTM(4, 4, proj_size=2),
        "weight_hh_l0, weight_hr_l0, weight_ih_l0 (the kernels have no projections (proj_size))",
    ),
    "add_zero_attn": (
        lambda: nn.MultiheadAttention(4, 2, add_zero_attn=True),
        "in_proj_weight, out_proj.weight (the kernels have no add_zero_attn of nn.MultiheadAttention)",
    ),
    "a marked parameter": (with_a_marked_weight, "weight (a Marked, and no plain nn.Parameter)"),
    "half": (lambda: nn.Linear(4, 4).half(), "weight (of type float16, and the kernels are for float32 and float64)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_each_weight_that_cannot_be_is_named(kind):
    make, words = REFUSED[kind]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    settings = {"sparsity": 0.5, "steps": 200}
    with pytest.raises(ConfigError) as caught:
        sparsify(model, optimizer, backend="sparse", **settings)
    advice = "use auto, or name it in keep_dense."
    assert str(caught.value) == f"backend=sparse is not possible for {words}: {advice}"
    assert not optimizer._optimizer_state_dict_pre_hooks
    sparsify(model, optimizer, **settings).check()


WHOLE = {
    "Muon": (torch.optim.Muon, "Muon is not known to move every entry of a weight by itself"),
    "LBFGS": (torch.optim.LBFGS, "LBFGS is not known to move every"),
    "Adafactor": (torch.optim.Adafactor, "Adafactor is not known to move every"),
    "of one's own": (lambda p: type("Mine", (torch.optim.SGD,), {})(p, 0.1), "Mine is not known to move every"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_optimizers_that_mix_entries_are_refused(kind):
    make, words = WHOLE[kind]
    model = nn.Linear(4, 4, bias=False)
    optimizer = make(model.parameters())
    with pytest.raises(ConfigError, match=rf"^backend=sparse is not possible, because {words}.*: use backend=masked"):
        sparsify(model, optimizer, sparsity=0.5, steps=200, backend="sparse")
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=200, backend="auto")
    assert (sparsifier.backend, sparsifier.backend_reason.startswith(words)) == ("masked", True)


def test_auto_packs_what_it_can(monkeypatch):
    monkeypatch.setattr(own_choice, "ALWAYS", True)
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, update_interval=2, method="rigl")
    assert sparsifier.backend == "sparse"
    assert sparsifier.backend_reason == (
        "50% of the weights are active, and it computes with those alone, but for 1.weight (no kernel computes what "
        "Conv1d does)"
    )
    for _ in range(6):
        optimizer.zero_grad()
        model[1](model[0](torch.randn(5, 8))[..., None]).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
        sparsifier.check()
    assert (model[0].weight.dim(), model[1].weight.dim()) == (1, 3)
    assert sparsifier.topology.active == round(0.5 * sparsifier.topology.size)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, own_choice.SMALL),
        ({"backend": "masked"}, "as requested"),
        ({"method": "gmp", "sparsity": 0.9}, "method=gmp starts dense"),
        ({"sparsity": 0.2}, "80% of the weights are active, and above 50% masks are faster"),
        ({"method": "snfs"}, "dense gradients are needed in every step"),
    ],
)
def test_auto_prefers_masks_where_they_are_faster(settings, reason, monkeypatch):
    monkeypatch.setattr(own_choice, "ALWAYS", False)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, **{"sparsity": 0.8, "steps": 200, **settings})
    assert (sparsifier.backend, sparsifier.backend_reason) == ("masked", reason)
    assert type(model) is nn.Linear


def test_without_a_compiler(monkeypatch):
    def fail() -> None:
        raise KernelsUnavailable("There is no C++ compiler: install g++, or use sparsifier.backend=masked.")

    monkeypatch.setattr(own_choice, "ALWAYS", True)
    monkeypatch.setattr(own_choice, "kernels", fail)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ConfigError, match=r"^There is no C\+\+ compiler: install g\+\+, or use backend=masked\.$"):
        sparsify(model, optimizer, sparsity=0.5, steps=200, backend="sparse")
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=200)
    assert sparsifier.backend == "masked"
    assert sparsifier.backend_reason.startswith("There is no C++ compiler")


def test_an_average_of_the_weights_is_dense():
    model = nn.GRU(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.6, steps=200, backend="sparse")
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    before = None
    for _ in range(3):
        model(torch.randn(3, 2, 8))[0].square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
        average.update_parameters(model)
        weight = average.module.weight_hh_l0.clone()
        now = model.weight_hh_l0.detach()
        expected = now if before is None else (before + now) / 2
        assert torch.allclose(weight, expected)
        before = weight
    with pytest.raises(RuntimeError, match="Inplace update"):
        model.weight_hh_l0.detach().zero_()
    model.load_state_dict(average.module.state_dict())
    assert torch.equal(model.weight_hh_l0, weight)
