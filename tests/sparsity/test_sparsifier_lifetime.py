"""What a sparsifier keeps alive, what can be copied, how it shows itself, and what the package offers."""

import copy
import gc
import io
import pickle
import pydoc
import subprocess
import sys
import weakref

import pytest
import torch
from own_loops import SAM, Trial
from sparsify_loop import Loop, make
from storages import ON_KERNELS
from torch import Tensor

import sparse_rnn
from sparse_rnn import sparsify


def last_state(output: tuple[Tensor, Tensor]) -> Tensor:
    return output[1][0]


@pytest.fixture
def _no_collector():
    Loop(optimizer="momentum")  # the first optimizer of a process stays: torch keeps the frame that it was made in
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("first", ["model", "sparsifier"])
def test_nothing_is_kept_alive(first):
    """Without the collector: there is no circle of references either."""
    loop = Loop(optimizer="momentum")
    loop.run(10)
    model, sparsifier, optimizer = loop.model, loop.sparsifier, loop.optimizer
    del loop
    died = weakref.ref(model), weakref.ref(sparsifier), weakref.ref(sparsifier._watch)
    hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    assert all(len(each) == 1 for each in hooks)
    if first == "model":
        del model
        assert died[0]() is None
        del sparsifier
    else:
        del sparsifier
        assert died[1]() is None
        del model
    assert [each() for each in died] == [None] * 3
    assert not any(hooks)


def test_after_its_sparsifier_is_gone_a_module_may_be_made_sparse_again():
    model = make("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    settings = {"sparsity": 0.5, "steps": 20, "update_interval": 4}
    first = sparsify(model, optimizer, keep_dense=["head.*"], **settings)
    del first
    sparsify(model, optimizer, keep_dense=["en*", "em*"], **settings)


def test_modules_and_optimizers_are_copied_and_pickled_as_before():
    loop = Loop(optimizer="adam")
    loop.model.pick = last_state  # in place of a lambda, which cannot be pickled
    loop.run(3)
    for same in (copy.deepcopy(loop.model), pickle.loads(pickle.dumps(loop.model))):
        assert all(torch.equal(value, loop.model.state_dict()[name]) for name, value in same.state_dict().items())
        with torch.no_grad():
            for parameter in same.parameters():
                parameter.fill_(1.0)
        same.load_state_dict(loop.model.state_dict())
    file = io.BytesIO()
    torch.save(loop.model, file)
    assert b"sparse_rnn" not in file.getvalue()
    for same in (copy.deepcopy(loop.optimizer), pickle.loads(pickle.dumps(loop.optimizer))):
        assert not same._optimizer_step_pre_hooks
    loop.sparsifier.check()
    loop.run(3)


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_sparsifier_cannot_be_copied(act):
    with pytest.raises(TypeError, match=r"^a sparsifier belongs to one module and optimizer: save its state_dict\(\)"):
        act(Loop().sparsifier)


def test_a_wrapped_optimizer_is_let_go_as_well():
    trial = Trial(lambda p: SAM(p, lambda groups: torch.optim.Adam(groups, 0.01)), closure=True)
    base = trial.optimizer.base_optimizer
    assert len(base._optimizer_step_pre_hooks) == 1
    del trial.sparsifier
    assert not base._optimizer_step_pre_hooks


@pytest.mark.parametrize(
    ("settings", "steps", "shown"),
    [
        ({}, 0, "method=selfish growth=random sparsity=0.5998 step 0 of 40, next update after step 8>"),
        ({}, 8, "step 8 of 40, next update after step 16>"),
        ({}, 31, "step 31 of 40, next update after step 32>"),
        ({}, 32, "step 32 of 40, no further update>"),
        ({"method": "static_er"}, 3, "method=static_er growth=none sparsity=0.5998 step 3 of 40, no further update>"),
        ({"method": "gmp"}, 0, "method=gmp growth=none sparsity=0.0000 step 0 of 40, next update after step 16>"),
        ({"method": "gmp"}, 32, "step 32 of 40, next update after step 36>"),
        ({"method": "gmp"}, 36, "sparsity=0.5998 step 36 of 40, no further update>"),
        ({"update_until": 0.5}, 8, "step 8 of 40, next update after step 16>"),
        ({"update_until": 0.5}, 16, "step 16 of 40, no further update>"),
    ],
)
def test_what_it_shows(settings, steps, shown):
    loop = Loop(**settings)
    updates = loop.run(steps)
    assert repr(loop.sparsifier).startswith(f"<StepSparsifier backend={'sparse' if ON_KERNELS else 'masked'} method=")
    assert repr(loop.sparsifier).endswith(shown)
    rest = loop.run(48 - steps)
    assert [*updates, *rest] == [*updates, *following(settings, steps)]


def following(settings: dict, steps: int) -> list[int]:
    """Every update that `next_update` announces, one after the other."""
    sparsifier, found = Loop(**settings).sparsifier, []
    sparsifier.step = steps
    while sparsifier.next_update is not None:
        found.append(sparsifier.next_update)
        sparsifier.step = sparsifier.next_update
    return found


def test_a_far_future_is_shown_at_once():
    model = make("gru")
    sparsifier = sparsify(
        model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, steps=10**9, update_interval=1, method="gmp"
    )
    assert sparsifier.next_update == 3 * 10**8


def test_what_is_public_is_listed_and_documented():
    assert {"sparsify", "StepSparsifier", "register", "SparsifierConfig", "GrowthRule"} <= set(sparse_rnn.__all__)
    assert set(sparse_rnn.__all__) <= set(dir(sparse_rnn))
    assert set(sparse_rnn.__all__) - {"__version__"} == set(sparse_rnn._HOMES)
    text = pydoc.plain(pydoc.render_doc(sparse_rnn))
    assert "sparsify(" in text
    assert "class StepSparsifier(" in text
    everything: dict[str, object] = {}
    exec("from sparse_rnn import *", everything)
    assert set(sparse_rnn.__all__) <= set(everything)
    with pytest.raises(AttributeError, match="module 'sparse_rnn' has no attribute 'sparsfy'"):
        sparse_rnn.sparsfy  # noqa: B018


def test_listing_imports_nothing():
    code = "import sys, sparse_rnn; dir(sparse_rnn); sparse_rnn.__all__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
