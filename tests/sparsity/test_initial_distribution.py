import pytest
import torch
from storages import as_tested
from torch import nn

from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.sparsity.groups import groups_of
from sparse_rnn.sparsity.method import final_counts, initial_counts
from sparse_rnn.sparsity.rules.growth import NoGrowth
from sparse_rnn.sparsity.rules.initial import Dense, ErdosRenyi, Uniform
from sparse_rnn.sparsity.sparsifier import Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology


def meta_topology(config) -> SparseTopology:
    with torch.device("meta"):
        return SparseTopology.of(config.build(10_000))


def densities(counts) -> dict[str, float]:
    return {group.name: count / group.size for group, count in counts}


def test_er_densities_of_the_stacked_lstm(method):
    """facts B.1, by the stacked shapes; the count is that of sparsity .67 exactly."""
    counts = initial_counts(method(initial="er", sparsity=0.67), meta_topology(StackedLSTMConfig()))
    assert sum(count for _, count in counts) == 21_780_000
    by_name = densities(counts)
    assert len(by_name) == 6
    for name, density in by_name.items():
        assert density == pytest.approx(0.3425 if "lstm" in name else 0.3151, abs=5e-5), name


def test_er_densities_of_the_rhn(method):
    counts = initial_counts(method(initial="er", sparsity=0.528), meta_topology(RHNConfig()))
    assert sum(count for _, count in counts) == round(0.472 * 23_455_800)
    by_name = densities(counts)
    assert len(by_name) == 12
    for name, density in by_name.items():
        assert density == pytest.approx(0.378 if "embedding" in name else 0.5235, abs=5e-5), name


@pytest.mark.parametrize("scope", ["gate", "tensor", "cell"])
def test_er_gives_a_tensor_the_same_count_whatever_the_scope(method, scope):
    """ST-RNN's gates share what the stacked shape gives (design, section 4)."""
    topology = meta_topology(StackedLSTMConfig())
    config = method(initial="er", sparsity=0.67, scope=scope)
    of_tensors = dict(densities(initial_counts(method(initial="er", sparsity=0.67), topology)))
    for group, count in initial_counts(config, topology):
        assert count / group.size == pytest.approx(of_tensors[group.blocks[0].weight.name], abs=1e-6)
    assert sum(final_counts(config, topology).values()) == 21_780_000


def test_er_by_hand():
    """Shares r + c: 4 x 4 -> 8, 2 x 6 -> 8, 1 x 4 -> 5; of 32 entries 11 active -> 4.19, 4.19, 2.62."""
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(6, 2), nn.Linear(4, 1)])
    groups = groups_of(SparseTopology.of(model), "tensor")
    assert ErdosRenyi()(groups, 1 - 11 / 32) == [4, 4, 3]


def test_er_caps_a_tensor_at_dense_and_keeps_the_total():
    """Shares 20 : 7 : 3 of 56 are 37.3, 13.1 and 5.6: the small two are full with 10 and 2, the first gets the rest."""
    model = nn.ModuleList([nn.Linear(10, 10), nn.Linear(5, 2), nn.Linear(2, 1)])
    groups = groups_of(SparseTopology.of(model), "tensor")
    assert [group.size for group in groups] == [100, 10, 2]
    assert ErdosRenyi()(groups, 0.5) == [44, 10, 2]


def test_uniform_is_exact_where_tensors_do_not_divide():
    """Three tensors of 5 at density .5: 7.5 rounds to 8, 2.67 each."""
    groups = groups_of(SparseTopology.of(nn.ModuleList(nn.Linear(5, 1) for _ in range(3))), "tensor")
    counts = Uniform()(groups, 0.5)
    assert sum(counts) == 8
    assert sorted(counts) == [2, 3, 3]


def test_uniform_gives_every_group_the_same_density(method):
    counts = initial_counts(method(sparsity=0.67, scope="gate"), meta_topology(StackedLSTMConfig()))
    assert len(counts) == 4 * 4 + 2
    assert all(density == pytest.approx(0.33, abs=1e-6) for density in densities(counts).values())


def test_dense_is_dense():
    groups = groups_of(SparseTopology.of(nn.LSTM(3, 4)), "tensor")
    assert Dense()(groups, 0.9) == [48, 64]


def test_the_first_topology_is_drawn_by_init_seed_alone(method):
    """Figures 4 and 9 need runs that share a start and differ in all else."""

    def masks(seed: int, init_seed: int | None = None):
        torch.manual_seed(0)
        model = nn.LSTM(6, 8)
        topology = SparseTopology.of(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        config = method(sparsity=0.7)
        Sparsifier(config, NoGrowth(), topology, optimizer, seed=seed, init_seed=init_seed)
        assert all(((as_tested(w).values != 0) == w.mask).all() for w in topology)
        return torch.cat([w.mask.flatten() for w in topology])

    assert torch.equal(masks(1, 5), masks(2, 5))
    assert not torch.equal(masks(1, 5), masks(1, 6))
    assert torch.equal(masks(4), masks(9, 4))
    assert int(masks(1).sum()) == round(0.3 * 4 * 8 * 14)


@pytest.mark.parametrize("scope", ["gate", "tensor", "cell"])
def test_pruning_ends_at_the_sparsity_asked_for(method, scope):
    config = method(initial="dense", removal="magnitude", schedule="cubic", sparsity=0.75, scope=scope)
    topology = SparseTopology.of(nn.LSTM(4, 8))
    final = final_counts(config, topology)
    assert set(final) == {"weight_ih_l0", "weight_hh_l0"}
    assert sum(final.values()) == topology.size // 4
