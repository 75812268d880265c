"""Weights and states that are loaded, in any order, or written in place: masked, or refused in a sentence."""

import copy
import io
import itertools

import pytest
import torch
from own_loops import Trial
from sparsify_loop import Loop, make
from storages import masked_only, state_of
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sparse_rnn import ConfigError, sparsify

STEPS, STOP = 24, 13
OTHER = r"active weights are zero: the weights were saved with another topology, so restore the state of the sparsifier"
METHODS = [("selfish", "adam"), ("set", "momentum"), ("gmp", "adam"), ("snfs", "averaged"), ("dsr", "adam")]


def saved(loop: Loop) -> dict[str, dict]:
    """The checkpoint of a loop, written and read."""
    file = io.BytesIO()
    torch.save({part: getattr(loop, part).state_dict() for part in ("model", "optimizer", "sparsifier")}, file)
    file.seek(0)
    return torch.load(file)


def fresh(method: str, optimizer: str, **settings: object) -> Loop:
    return Loop(method=method, optimizer=optimizer, steps=STEPS, update_interval=4, seed=5, **settings)


def assert_same(loop: Loop, whole: Loop) -> None:
    assert loop.losses[STOP:] == whole.losses[STOP:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(loop.model.state_dict()[name], value), name


@pytest.mark.parametrize("order", list(itertools.permutations(["model", "optimizer", "sparsifier"])), ids="-".join)
@pytest.mark.parametrize(("method", "optimizer"), METHODS)
def test_states_are_restored_in_any_order(method, optimizer, order):
    whole = fresh(method, optimizer)
    whole.run(STOP)
    checkpoint = saved(whole)
    whole.run(STEPS - STOP)
    loop = Loop(method=method, optimizer=optimizer, steps=STEPS, update_interval=4, seed=6)  # another first topology
    loop.sparsifier.seed = 5
    loop.losses = whole.losses[:STOP]
    for part in order:
        getattr(loop, part).load_state_dict(checkpoint[part])
    loop.run(STEPS - STOP)
    assert_same(loop, whole)


@pytest.mark.parametrize("before", [("model",), ("model", "optimizer"), ("optimizer",)], ids="-".join)
@pytest.mark.parametrize(("method", "optimizer"), METHODS)
def test_parts_may_be_restored_before_sparsify(method, optimizer, before):
    """As frameworks do that restore the module before they make the optimizer."""
    whole = fresh(method, optimizer)
    whole.run(STOP)
    checkpoint = saved(whole)
    whole.run(STEPS - STOP)
    loop = fresh(method, optimizer)
    loop.model = make("gru")
    loop.optimizer = type(loop.optimizer)(loop.model.parameters(), **whole_settings(whole))
    for part in before:
        getattr(loop, part).load_state_dict(checkpoint[part])
    loop.sparsifier = sparsify(
        loop.model, loop.optimizer, sparsity=0.6, method=method, steps=STEPS, update_interval=4, seed=6
    )
    loop.sparsifier.seed = 5
    for part in {"model", "optimizer", "sparsifier"} - set(before):
        getattr(loop, part).load_state_dict(checkpoint[part])
    loop.losses = whole.losses[:STOP]
    loop.run(STEPS - STOP)
    assert_same(loop, whole)


def whole_settings(loop: Loop) -> dict[str, float]:
    group = loop.optimizer.param_groups[0]
    return {key: group[key] for key in ("lr", "momentum") if group.get(key)}


@pytest.mark.parametrize("optimizer", ["adam", "plain"])
@pytest.mark.parametrize("method", ["selfish", "gmp"])
def test_a_topology_that_does_not_follow_is_missed(method, optimizer):
    """Model and optimizer restored before sparsify, and nothing after: most of the active weights would be zero."""
    whole = Loop(method=method, optimizer="adam", steps=STEPS, update_interval=4)
    whole.run(STEPS)
    checkpoint = saved(whole)
    model = make("gru")
    model.load_state_dict(checkpoint["model"])
    made = {"adam": torch.optim.Adam(model.parameters(), 0.01), "plain": torch.optim.SGD(model.parameters(), 0.1)}
    if optimizer == "adam":
        made["adam"].load_state_dict(checkpoint["optimizer"])
    sparsifier = sparsify(model, made[optimizer], sparsity=0.6, method=method, steps=STEPS, update_interval=4, seed=2)
    if method == "gmp" and optimizer == "plain":
        return  # a network that is dense by its mask, and nothing tells whether it was trained
    for look in (sparsifier.before_step, sparsifier.check, sparsifier.before_step):
        with pytest.raises(RuntimeError, match=OTHER):
            look()
    sparsifier.load_state_dict(checkpoint["sparsifier"])
    sparsifier.check()
    sparsifier.before_step()


def test_weights_of_another_topology_are_refused():
    theirs = fresh("selfish", "adam")
    theirs.run(STOP)
    loop = Loop(method="selfish", steps=STEPS, update_interval=4, seed=6)
    loop.run(2)
    loop.model.load_state_dict(theirs.model.state_dict())
    with pytest.raises(RuntimeError, match=r"inactive entries of embedding\.weight are not zero"):
        loop.sparsifier.check()
    with pytest.raises(RuntimeError, match=OTHER):
        loop.step()
    loop.sparsifier.load_state_dict(theirs.sparsifier.state_dict())
    loop.sparsifier.check()
    loop.step()


def test_a_topology_without_its_weights_is_refused():
    theirs = fresh("selfish", "adam")
    theirs.run(STOP)
    loop = Loop(method="selfish", steps=STEPS, update_interval=4, seed=6)
    loop.sparsifier.load_state_dict(theirs.sparsifier.state_dict())
    with pytest.raises(RuntimeError, match=OTHER):
        loop.step()


WRITES = {
    "load_state_dict": lambda model, weights: model.load_state_dict(weights),
    "load_state_dict of a part": lambda model, weights: model.encoder.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    ),
    "copy_ without grad": lambda model, weights: [p.copy_(weights[name]) for name, p in model.named_parameters()],
    "copy_ into data": lambda model, weights: [p.data.copy_(weights[name]) for name, p in model.named_parameters()],
    "data exchanged": lambda model, weights: [
        setattr(p, "data", weights[name].clone()) for name, p in model.named_parameters()
    ],
    "initialised again": lambda model, _: [nn.init.orthogonal_(p) for p in model.parameters() if p.dim() == 2],
    "identity": lambda model, _: nn.init.eye_(model.encoder.weight_hh_l0),
    "constant": lambda model, _: nn.init.constant_(model.head.weight, 0.1),
    "zeros": lambda model, _: nn.init.zeros_(model.head.weight),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("before", [0, 5])
def test_dense_weights_are_masked_again(write, before):
    """Pretrained ones, or those of an average over all steps."""
    trial = Trial(lambda p: torch.optim.Adam(p, 0.01))
    for _ in range(before):
        trial.step()
    torch.manual_seed(9)
    other = {name: torch.randn_like(value) for name, value in trial.model.state_dict().items()}
    with torch.no_grad():
        WRITES[write](trial.model, other)
    if write not in ("zeros",):
        assert trial.sparsifier.sparsity < 0.6
        with pytest.raises(RuntimeError, match=r"^[\d,]+ of [\d,]+ inactive entries of [\w.]+ are not zero: "):
            trial.sparsifier.check()
    for _ in range(3):
        trial.step()
        trial.assert_sparse()


@masked_only("the copy of a module is dense, and torch averages it only with a dense one")
def test_averaged_weights_are_loaded_back():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    average = AveragedModel(trial.model)
    for _ in range(10):
        trial.step()
        average.update_parameters(trial.model)
    trial.model.load_state_dict(average.module.state_dict())
    with pytest.raises(RuntimeError, match="are not zero"):
        trial.sparsifier.check()
    trial.step()
    trial.assert_sparse()


def test_the_weights_of_an_earlier_step_are_loaded_back():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    trial.step()
    best = copy.deepcopy(trial.model.state_dict())
    trial.step()
    trial.model.load_state_dict(best)
    trial.sparsifier.check()
    trial.step()
    trial.assert_sparse()


def test_an_optimizer_s_state_is_masked_when_it_is_loaded():
    other = make("gru")
    dense = torch.optim.Adam(other.parameters(), 0.01)
    for parameter in other.parameters():
        parameter.grad = torch.ones_like(parameter)
    dense.step()
    trial = Trial(lambda p: torch.optim.Adam(p, 0.01))
    trial.optimizer.load_state_dict(dense.state_dict())
    trial.step()
    trial.assert_sparse()
    for weight in trial.sparsifier.topology:
        for key in ("exp_avg", "exp_avg_sq"):
            assert not state_of(trial.optimizer, weight)[key][~weight.mask].count_nonzero()


def test_loading_by_exchange_of_the_tensors():
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
        trial.step()
        head = trial.model.head  # torch's RNNs keep weak references to their weights, which rule the exchange out
        head.load_state_dict({name: torch.randn_like(value) for name, value in head.state_dict().items()})
        trial.step()
        trial.assert_sparse()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@masked_only("the vector holds active values alone")
def test_a_vector_of_all_parameters_is_loaded():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    trial.step()
    vector = nn.utils.parameters_to_vector(trial.model.parameters())
    nn.utils.vector_to_parameters(torch.randn_like(vector), trial.model.parameters())
    with pytest.raises(RuntimeError, match="are not zero"):
        trial.sparsifier.check()
    trial.step()
    trial.assert_sparse()


def test_loading_from_inside_a_larger_module():
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    outer = nn.Sequential(trial.model)
    outer.load_state_dict({name: torch.randn_like(value) for name, value in outer.state_dict().items()})
    trial.step()
    trial.assert_sparse()


def test_sparse_initialisation_is_no_checkpoint():
    """Zeros by design: an identity for the recurrent weight, a padding word, an output that starts at zero."""
    model = make("gru")
    with torch.no_grad():
        nn.init.zeros_(model.head.weight)
        model.embedding.weight[0] = 0
        for part in model.encoder.weight_hh_l0.chunk(3):
            nn.init.eye_(part)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    sparsifier = sparsify(model, optimizer, sparsity=0.6, steps=20, update_interval=4)
    sparsifier.before_step()
    optimizer.step()
    sparsifier.after_step()
    sparsifier.check()


def exchanged(trial: Trial) -> None:
    trial.model.load_state_dict({k: torch.randn_like(v) for k, v in trial.model.state_dict().items()}, assign=True)


CHANGES = {
    "assign": (exchanged, r"^embedding\.weight is no longer the parameter that sparsify made sparse: "),
    "another parameter": (
        lambda trial: setattr(trial.model.head, "weight", nn.Parameter(torch.ones(4, 16))),
        r"^head\.weight is no longer the parameter",
    ),
    "parametrised": (
        lambda trial: torch.nn.utils.parametrizations.weight_norm(trial.model.head),
        r"^head\.weight is no longer the parameter",
    ),
    "pruned": (
        lambda trial: torch.nn.utils.prune.l1_unstructured(trial.model.head, "weight", 0.5),
        r"^head\.weight is no longer the parameter",
    ),
    "moved": (lambda trial: trial.model.to("meta"), r"^embedding\.weight is no longer the parameter"),
    "reshaped": (
        lambda trial: setattr(trial.model.head.weight, "data", torch.ones(5, 16)),
        r"^head\.weight has changed its shape since sparsify: ",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_exchanged_are_noticed(change):
    trial = Trial(lambda p: torch.optim.SGD(p, 0.1))
    act, sentence = CHANGES[change]
    act(trial)
    for look in (trial.sparsifier.check, trial.sparsifier.before_step):
        with pytest.raises(RuntimeError, match=sentence):
            look()


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({}, r"^This is not a state that this method's sparsifier returned by state_dict\(\)\.$"),
        ([], r"^This is not a state"),
        (None, r"^This is not a state"),
        ("model", r"^This is not a state"),
        ("optimizer", r"^This is not a state"),
        ("another sparsity", r"^The sparsifier's state has [\d,]+ active weights, and sparsify was asked for [\d,]+: "),
        (
            "fewer weights",
            r"^embedding\.weight is dense in the sparsifier's state and sparse of shape \[4, 16\] here: ",
        ),
        ("dsr from selfish", r"^This is not a state that this method's"),
    ],
)
def test_the_state_of_something_else_is_refused(state, sentence):
    loop = Loop(method="dsr" if state == "dsr from selfish" else "selfish")
    other = {"another sparsity": {"sparsity": 0.5}, "fewer weights": {"keep_dense": ["embedding.*"]}}
    if isinstance(state, str):
        part = state if state in ("model", "optimizer") else "sparsifier"
        state = getattr(Loop(**other.get(state, {})), part).state_dict()
    with pytest.raises(ConfigError, match=sentence):
        loop.sparsifier.load_state_dict(state)


def test_a_second_call_is_refused():
    loop = Loop()
    sentence = r"^embedding\.weight is kept sparse by another sparsifier already: call sparsify once\.$"
    with pytest.raises(ConfigError, match=sentence):
        sparsify(loop.model, loop.optimizer, sparsity=0.5, steps=20, update_interval=4)
    for part in (loop.model.encoder, nn.Sequential(loop.model)):
        optimizer = torch.optim.SGD(part.parameters(), 0.1)
        with pytest.raises(ConfigError, match="is kept sparse by another sparsifier already"):
            sparsify(part, optimizer, sparsity=0.5, steps=20, update_interval=4)
    loop.step()


def test_parts_of_a_module_may_differ_in_sparsity():
    model = make("gru")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    settings = {"steps": 20, "update_interval": 4}
    both = [
        sparsify(model, optimizer, sparsity=0.5, keep_dense=["encoder.*"], **settings),
        sparsify(model.encoder, optimizer, sparsity=0.8, **settings),
    ]
    tokens = torch.randint(4, (6, 16))
    nn.functional.cross_entropy(model(tokens), tokens[0]).backward()
    for each in both:
        each.before_step()
    optimizer.step()
    for each in both:
        each.after_step()
        each.check()
    assert [round(each.sparsity, 2) for each in both] == [0.5, 0.8]
