"""A sentence for every argument of `sparsify` that is of the wrong kind; rules and configurations in place of names."""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest
import torch
from sparsify_loop import Cell, Loop, make
from torch import nn

from sparse_rnn import ConfigError, Gates, SparsifierConfig, sparsify
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.rules.growth import GradientGrowth, MomentumGrowth, NoGrowth, RandomGrowth
from sparse_rnn.sparsity.selection import select_smallest


def refusal(**settings: object) -> str:
    """The sentence with which the arguments are refused, which leaves the weights as they were."""
    model = make("gru")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    given = {"module": model, "optimizer": optimizer, "sparsity": 0.5, "steps": 20, "update_interval": 4} | settings
    with pytest.raises(ConfigError) as caught:
        sparsify(**given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@dataclass
class Sharp(SparsifierConfig):
    """A method of one's own, which nobody has registered."""

    name: str = "sharp"
    removal: str = "magnitude"
    sharpness: int = 3


class Unready:
    name = "unready"

    def __call__(self) -> None: ...


class Wishful(RandomGrowth):
    needs: ClassVar[frozenset] = frozenset({"curvature"})


WRONG = [
    ({"module": 3}, "module must be an nn.Module, not 3."),
    ({"module": nn.Linear}, "module must be an nn.Module, not the class Linear."),
    ({"optimizer": "adam"}, "optimizer must be a torch.optim.Optimizer, not 'adam'."),
    ({"optimizer": []}, "optimizer must be a torch.optim.Optimizer, not []."),
    ({"sparsity": None}, "sparsity is missing: give the inactive share of the weights, as in sparsity=0.8."),
    ({"sparsity": "0.5"}, "sparsity must be a number, not '0.5'."),
    ({"sparsity": True}, "sparsity must be a number, not True."),
    ({"sparsity": torch.tensor([0.5])}, "sparsity must be a number, not a Tensor."),
    ({"sparsity": float("nan")}, "sparsifier.sparsity=nan must lie in [0, 1)."),
    ({"sparsity": -0.1}, "sparsifier.sparsity=-0.1 must lie in [0, 1)."),
    ({"removal_rate": [0.5]}, "removal_rate must be a number, not [0.5]."),
    ({"removal_rate": 1}, "sparsifier.removal_rate=1.0 must lie in [0, 1)."),
    ({"steps": 20.0}, "steps must be a whole number, not 20.0."),
    ({"steps": "20"}, "steps must be a whole number, not '20'."),
    ({"steps": True}, "steps must be a whole number, not True."),
    ({"steps": -1}, "steps=-1 must be at least 1."),
    ({"steps": 10**12}, "steps=1000000000000 must be at most 1,000,000,000."),
    (
        {"update_interval": "epoch"},
        "update_interval=epoch cannot be used here: sparsify counts steps, so give a number of them.",
    ),
    ({"update_interval": 2.5}, "update_interval must be a whole number, not 2.5."),
    ({"update_interval": "4"}, "update_interval must be a whole number, not '4'."),
    ({"update_interval": 0}, "update_interval=0 must be at least 1."),
    ({"seed": 2**64}, "seed=18446744073709551616 must be at most 9,223,372,036,854,775,807."),
    ({"seed": -1}, "seed=-1 must not be negative."),
    ({"seed": 1.5}, "seed must be a whole number, not 1.5."),
    ({"seed": None}, "seed must be a whole number, not None."),
    ({"keep_dense": "head.*"}, "keep_dense must be a list of names or globs, not 'head.*'."),
    ({"keep_dense": [["head.*"]]}, "keep_dense must be a list of names or globs, not [['head.*']]."),
    ({"keep_dense": ["head.*", 3]}, "keep_dense must be a list of names or globs, not ['head.*', 3]."),
    ({"keep_dense": 3}, "keep_dense must be a list of names or globs, not 3."),
    ({"keep_dense": ["*"]}, "keep_dense leaves no weight to make sparse: leave sparsify out."),
    ({"gates": ["encoder"]}, "gates must map names of parameters to the rows of their gates, not be ['encoder']."),
    ({"gates": {1: {}}}, "gates must map names of parameters to the rows of their gates, not be {1: {}}."),
    ({"gates": {"head.weight": 3}}, "gates must give the rows of head.weight as slices by the names of its gates."),
    (
        {"gates": {"head.weight": {"a": (0, 4)}}},
        "gates must give the rows of head.weight as slices by the names of its gates.",
    ),
    ({"gates": {"head.weight": {"a": slice(0, 4.0)}}}, "The gates of head.weight must be slices of whole numbers."),
    (
        {"gates": {"head.weight": {"a": slice(0, 2)}}},
        "The gates of head.weight must cover its 4 rows once each, in non-empty slices without a step.",
    ),
    ({"method": 3}, "method must be a name or a SparsifierConfig, not 3."),
    ({"method": None}, "method must be a name or a SparsifierConfig, not None."),
    ({"method": RandomGrowth()}, "method must be a name or a SparsifierConfig, not RandomGrowth(name='random')."),
    ({"method": ISSConfig(name="iss")}, "method=iss is not a composition of rules: sparsify does not offer it."),
    ({"method": Sharp(), "sharp": 3}, "sharp is not a setting of method=sharp (choose from "),
    ({"method": Sharp(initial="dense")}, "sparsifier=sharp grows weights and cannot start from initial=dense."),
    (
        {"method": Sharp(scope="gate"), "keep_dense": ["encoder.*"]},
        "gate needs gates, and the model has none: declare them with a gates() method.",
    ),
    ({"growth": 3}, "growth must be a name or a rule with `name` and `needs`, not 3."),
    ({"growth": RandomGrowth}, "growth must be a rule, not its class: write RandomGrowth()."),
    ({"growth": Unready()}, "growth must be a name or a rule with `name` and `needs`, not <"),
    ({"growth": Wishful()}, "Wishful(name='random'): `needs` must be a set of signals, which are "),
    ({"growth": NoGrowth()}, "sparsifier=selfish removes weights and must grow as many: choose a growth."),
    ({"growth": RandomGrowth(), "method": "gmp"}, "sparsifier=gmp never grows weights: leave growth=random out."),
    ({"removal": object()}, "removal: Value 'object' is not a supported primitive type."),
    ({"removal": ["set"]}, "sparsifier.removal: "),
    ({"update_until": "late"}, "sparsifier.update_until: "),
    ({"prune_start": None}, "sparsifier.prune_start: "),
    ({"epsilon": 3}, "epsilon would set the sparsity a second time: leave epsilon out."),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=[sentence[:60] for _, sentence in WRONG])
def test_wrong_arguments_are_one_sentence(settings, sentence):
    said = refusal(**settings)
    assert said == sentence if sentence.endswith(".") else said.startswith(sentence)


def test_numbers_of_numpy_are_numbers():
    sparsifier = Loop(
        sparsity=np.float32(0.5),
        steps=np.int64(40),
        update_interval=np.int32(8),
        seed=np.uint8(3),
        keep_dense=("head.*",),
    ).sparsifier
    assert sparsifier.topology.active == round(0.5 * sparsifier.topology.size)
    assert Loop(sparsity=Fraction(1, 2)).sparsifier.config.sparsity == 0.5


def test_a_rule_in_place_of_a_name():
    by_name, by_rule = Loop(method="rigl"), Loop(method="rigl", growth=GradientGrowth())
    by_name.run(20)
    by_rule.run(20)
    assert all(torch.equal(mask, by_rule.masks[name]) for name, mask in by_name.masks.items())
    slow = Loop(method="snfs", growth=MomentumGrowth(beta=0.99)).sparsifier
    assert slow.momentum_beta == 0.99


@dataclass
class Smallest(GradientGrowth):
    """A rule of one's own, which nobody has registered: the smallest gradients grow."""

    name: str = "smallest"
    calls: int = 0

    def __call__(self, group, candidates, count, signals, key):
        self.calls += 1
        return select_smallest(group.gather(signals["gradient"]).abs(), candidates, count, (*key, group.name))


def test_a_rule_of_one_s_own():
    rule = Smallest()
    loop = Loop(method="rigl", growth=rule)
    assert len(loop.run(20)) == 2
    assert rule.calls == 2 * len(loop.sparsifier.topology)
    assert "growth=smallest" in repr(loop.sparsifier)


def test_a_configuration_in_place_of_a_name():
    sparsifier = Loop(method=Sharp(sharpness=5, keep_dense=["head.*"]), keep_dense=["embedding.*"]).sparsifier
    assert (sparsifier.config.name, sparsifier.config.sharpness, sparsifier.config.sparsity) == ("sharp", 5, 0.6)
    assert (sparsifier.config.removal_rate, sparsifier.config.update_interval) == (0.5, "8")
    assert sparsifier.growth.name == "random"
    assert set(sparsifier.config.keep_dense) == {"head.*"}
    assert {w.name for w in sparsifier.topology} == {"encoder.weight_ih_l0", "encoder.weight_hh_l0"}


def test_a_configuration_keeps_what_the_call_leaves_out():
    config = SparsifierConfig(
        name="mine", sparsity=0.7, removal_rate=0.2, final_rate=0.1, removal="set", update_interval="3"
    )
    model = make("gru")
    sparsifier = sparsify(model, torch.optim.Adam(model.parameters()), method=config, steps=20, scope="gate")
    kept = sparsifier.config
    assert (kept.sparsity, kept.removal_rate, kept.final_rate, kept.update_interval) == (0.7, 0.2, 0.1, "3")
    assert (kept.removal, kept.scope) == ("set", "gate")
    assert config.scope == "tensor"


class Gated(nn.Module):
    """A module whose method `gates` is not a declaration."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))


def gated(method) -> nn.Module:
    return type("Own", (Gated,), {"gates": method})()


NO_DECLARATION = {
    "with arguments": lambda self, x, h: x @ self.weight + h,
    "with a keyword": lambda self, *, x: x,
    "a tensor": lambda self: self.weight.sigmoid(),
    "a list": lambda self: ["input", "forget"],
    "none": lambda self: None,
    "tensors by gate": lambda self: {"input": self.weight[:4], "forget": self.weight[4:]},
    "static": staticmethod(lambda x: x),
    "a property": property(lambda self: 3),
}


@pytest.mark.parametrize("kind", NO_DECLARATION)
def test_a_method_that_happens_to_be_called_gates(kind):
    module = gated(NO_DECLARATION[kind])
    sparsifier = sparsify(module, torch.optim.SGD(module.parameters(), 0.1), sparsity=0.5, steps=200)
    assert list(sparsifier.topology["weight"].gates) == ["all"]


def test_a_method_called_gates_that_cannot_be_called_yet():
    module = gated(lambda self: self.state)
    with pytest.warns(UserWarning, match=r"^Own\.gates\(\) failed \(.*state.*\): it declares no gates\.$"):
        sparsify(module, torch.optim.SGD(module.parameters(), 0.1), sparsity=0.5, steps=200)


@pytest.mark.parametrize(
    "declare",
    [
        lambda self: {"weight": {"a": slice(0, 4), "b": slice(4, 8)}},
        lambda self, cell="": {"weight": Gates({"a": slice(0, 4), "b": slice(4, 8)}, cell)},
        staticmethod(lambda: {"weight": {"a": slice(0, np.int64(4)), "b": slice(4, None)}}),
        classmethod(lambda cls: {"weight": Gates.equal(("a", "b"), 4, "c")}),
    ],
)
def test_a_declaration_of_gates(declare):
    module = gated(declare)
    sparsifier = sparsify(module, torch.optim.SGD(module.parameters(), 0.1), sparsity=0.5, steps=200)
    assert list(sparsifier.topology["weight"].gates) == ["a", "b"]


@pytest.mark.parametrize("rows", [(0, 8), {"a": [0, 8]}, {1: slice(0, 8)}])
def test_a_declaration_without_rows(rows):
    module = gated(lambda self: {"weight": rows})
    sentence = r"^Own\.gates\(\) must give the rows of weight as slices by the names of its gates\.$"
    with pytest.raises(ConfigError, match=sentence):
        sparsify(module, torch.optim.SGD(module.parameters(), 0.1), sparsity=0.5, steps=200)


def test_wrapped_modules_are_those_inside():
    model = make("gru")
    wrapped = nn.DataParallel(model)
    sparsifier = sparsify(wrapped, torch.optim.Adam(wrapped.parameters()), sparsity=0.5, steps=200)
    assert "head.weight" in {w.name for w in sparsifier.topology}
    cell = torch.compile(Cell(4, 4), backend="eager")
    sparsifier = sparsify(cell, torch.optim.Adam(cell.parameters()), sparsity=0.5, steps=200)
    assert [w.name for w in sparsifier.topology] == ["weight"]
