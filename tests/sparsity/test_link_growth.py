"""Growth by the topology alone, on a network of three rows and four columns that is small enough to count on paper."""

from itertools import product
from math import prod, sqrt

import pytest
import torch

from sparse_rnn.sparsity.rules import link_growth
from sparse_rnn.sparsity.rules.link_growth import CH2L3NodeGrowth, CH3L3Growth, ch2_l3n, ch3_l3

LINKS = [[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 1]]
# Row 0 and column 2 are joined by one path, over column 0 and row 1. Column 0 leads nowhere else, row 1 also to column
# 3, which is not in the community: 1 / sqrt(1 * 2) of the path; (1 + 1) / 1 and (1 + 1) / 2 of its nodes.
HALF = 1 / sqrt(2)
PATHS = {(0, 2): HALF, (0, 3): 1 + HALF, (1, 1): 2.0, (2, 0): 1 + HALF, (2, 2): HALF}
NODES = {(0, 2): 3.0, (0, 3): 7.0, (1, 1): 8.0, (2, 0): 7.0, (2, 2): 3.0}


@pytest.mark.parametrize(("score", "expected"), [(ch3_l3, PATHS), (ch2_l3n, NODES)])
def test_scores_by_hand(score, expected):
    scores = score(torch.tensor(LINKS, dtype=torch.float32))
    assert {place: float(scores[place]) for place in expected} == pytest.approx(expected)


def counted(links: list[list[int]], u: int, v: int) -> tuple[float, float]:
    """Both scores of row u and column v, by walking every path of three links (Zhang et al. 2024, Eq. 1 and 2)."""
    rows, columns = range(len(links)), range(len(links[0]))
    paths = [(c, r) for c, r in product(columns, rows) if links[u][c] and links[r][c] and links[r][v]]
    community = {("row", r) for _, r in paths} | {("column", c) for c, _ in paths}
    neighbours = {("row", r): {("column", c) for c in columns if links[r][c]} for r in rows}
    neighbours |= {("column", c): {("row", r) for r in rows if links[r][c]} for c in columns}
    inside = {z: len(neighbours[z] & community) for z in community}
    outside = {z: len(neighbours[z] - community - {("row", u), ("column", v)}) for z in community}
    by_paths = sum(1 / sqrt(prod(1 + outside[z] for z in (("column", c), ("row", r)))) for c, r in paths)
    return by_paths, sum((1 + inside[z]) / (1 + outside[z]) for z in community)


@pytest.mark.parametrize("piece", [1 << 22, 20])
def test_scores_of_a_random_network_equal_those_counted_path_by_path(piece, monkeypatch):
    monkeypatch.setattr(link_growth, "PIECE", piece)
    links = (torch.rand(7, 11, generator=torch.Generator().manual_seed(2)) < 0.35).int().tolist()
    network = torch.tensor(links, dtype=torch.float32)
    by_paths, by_nodes = ch3_l3(network), ch2_l3n(network)
    for u, v in product(range(7), range(11)):
        if not links[u][v]:
            assert (float(by_paths[u, v]), float(by_nodes[u, v])) == pytest.approx(counted(links, u, v), abs=1e-5)


def test_the_largest_scores_grow(group_of):
    """2 of row 1 and column 1; then one of the two of 1 + 1 / sqrt 2, drawn."""
    group = group_of([float(link) for row in LINKS for link in row], columns=4)
    found = set()
    for step in range(20):
        grown = CH3L3Growth()(group, ~group.active, 2, {}, (1, step)).int().tolist()
        assert grown[5] == 1
        assert sum(grown) == 2
        found.add(grown.index(1) if grown.index(1) != 5 else grown.index(1, 6))
    assert found == {3, 8}


def test_soft_growth_draws_in_proportion_to_the_scores(group_of):
    """Sums over nodes 3, 7, 8, 7, 3: of 28 in all."""
    group = group_of([float(link) for row in LINKS for link in row], columns=4)
    draws = 800
    hits = sum(CH2L3NodeGrowth()(group, ~group.active, 1, {}, (1, step)).double() for step in range(draws))
    expected = draws * torch.tensor([3, 7, 8, 7, 3], dtype=torch.float64) / 28
    assert float(((hits[~group.active] - expected) ** 2 / expected).sum()) < 18.5  # 4 degrees of freedom, p = .001


def test_entries_that_no_path_reaches_grow_last(group_of):
    """One link alone predicts nothing: all others are drawn alike."""
    group = group_of([1.0, *[0.0] * 7])
    for rule in (CH3L3Growth(), CH2L3NodeGrowth()):
        grown = [rule(group, ~group.active, 3, {}, (1, step)) for step in range(8)]
        assert all(int(mask.sum()) == 3 and not mask[0] for mask in grown)
        assert len({tuple(mask.tolist()) for mask in grown}) > 1
    assert not CH3L3Growth()(group, ~group.active, 0, {}, (1, 1)).any()


def test_a_group_of_gates_is_one_network(group_of):
    """Its rows are those of all gates, whichever of them a row belongs to."""
    values = [float(link) for row in [*LINKS, LINKS[0]] for link in row]
    apart, whole = group_of(values, columns=4, gates=("a", "b")), group_of(values, columns=4)
    for rule in (CH3L3Growth(), CH2L3NodeGrowth()):
        grown = [rule(group, ~group.active, 3, {}, (1, 4)) for group in (apart, whole)]
        assert torch.equal(*grown)
