"""R_s of ITOP (Liu et al. 2021): the share of all entries that have ever been active."""

import pytest
import torch
from storages import as_tested

from sparse_rnn.core.conf import options
from sparse_rnn.sparsity.exploration import Exploration
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.log_rows import topology_facts

METHODS = sorted(set(options("sparsifier")) - {"dense", "iss"})


def test_by_hand(weight_of):
    """Four of eight; then the first goes and the sixth comes: five; then the first comes back: still five."""
    weight = as_tested(weight_of([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    counted = Exploration(SparseTopology([weight]))
    assert counted.rate == 0.5
    for mask, rate in (([0, 1, 1, 1, 0, 1, 0, 0], 5 / 8), ([1, 1, 1, 1, 0, 0, 0, 0], 5 / 8), ([1] * 8, 1.0)):
        counted.add("w", torch.tensor(mask, dtype=torch.bool).reshape(4, 2))
        assert counted.rate == rate
    assert counted.state_dict()["w"].numel() == 1  # eight entries in one byte


@pytest.mark.parametrize("method", METHODS)
def test_the_logged_share_is_that_of_all_masks_so_far(training, method):
    """Counted here from the masks after every step."""
    run = training(f"sparsifier={method}", "optimizer=momentum_sgd", "sparsifier.update_interval=2")
    ever = {w.name: w.mask.clone() for w in run.topology}
    density = run.topology.active / run.topology.size
    for _ in range(7):
        run.backward()
        report = run.step()
        for weight in run.topology:
            ever[weight.name] |= weight.mask
        facts = topology_facts(run.sparsifier, run.clock, report)
        assert facts["topology/explored"] == sum(int(m.sum()) for m in ever.values()) / run.topology.size
    if not run.run.sparsifier.dynamic:
        assert facts["topology/explored"] == density


def test_a_run_that_resumes_goes_on_counting(training):
    settings = ["sparsifier=selfish", "optimizer=adam", "sparsifier.update_interval=1"]
    run, resumed = training(*settings), training(*settings)
    for _ in range(3):
        run.backward()
        run.step()
    resumed.sparsifier.load_state_dict(run.sparsifier.state_dict())
    before = run.sparsifier.explored
    assert resumed.sparsifier.explored == before > 0.4
    resumed.sparsifier.update(run.clock_at(4))
    assert before < resumed.sparsifier.explored < 1


def test_a_checkpoint_of_a_version_that_did_not_count_resumes_without(training):
    """A share counted from the middle on would be wrong."""
    run = training("sparsifier=selfish", "optimizer=adam")
    state = run.sparsifier.state_dict()
    del state["explored"]
    run.sparsifier.load_state_dict(state)
    assert run.sparsifier.explored is None
    assert "topology/explored" not in topology_facts(run.sparsifier, run.clock, None)
    run.sparsifier.update(run.clock)
