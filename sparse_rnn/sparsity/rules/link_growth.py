"""Growth by the topology alone: a weight is a bipartite network, and a rule predicts its next links.

The nodes are the rows and the columns of a weight that a group holds, the links its active entries as they are after
removal. An inactive entry (u, v) is likely to become a link if many paths u - z1 - z2 - v of three links lead from its
row to its column, through column z1 and row z2. These nodes form the local community of u and v. Within it, i(z) links
of a node z lead to other nodes of the community, and e(z) links lead outside, neither to those nor to u and v
(Cannistraci-Hebb theory). With N(x) the neighbours of x, for the row z2: i = |N(z2) & N(u)|, e = |N(z2)| - 1 - i.

No gradient is read. Memory, for the time of an update: the scores [rows, columns] of one group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.rules.growth import Signal, Signals
from sparse_rnn.sparsity.selection import select_smallest, select_weighted

PIECE = 1 << 22  # entries of a matrix between nodes that exist at a time


@register("growth", "ch3_l3")
@dataclass
class CH3L3Growth:
    """The largest sum over paths of 1 / sqrt((1 + e(z1)) (1 + e(z2))) (CHT, Zhang et al. 2024, CH3-L3); ties are drawn.

    soft: entries are drawn in proportion to their scores instead. Time: rows x columns x links.
    """

    name: str = "ch3_l3"
    soft: bool = False
    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return _grown(ch3_l3, group, candidates, count, self.soft, (*key, group.name))


@register("growth", "ch2_l3n")
@dataclass
class CH2L3NodeGrowth:
    """Drawn in proportion to the sum over nodes of (1 + i(z)) / (1 + e(z)) (CHTs, Zhang et al. 2025, CH2-L3n).

    soft: whether entries are drawn; otherwise the largest sums grow. Time: (rows + columns) x rows x columns.
    """

    name: str = "ch2_l3n"
    soft: bool = True
    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return _grown(ch2_l3n, group, candidates, count, self.soft, (*key, group.name))


def _grown(
    score: Callable[[Tensor], Tensor], group: Group, candidates: Tensor, count: int, soft: bool, key: tuple[object, ...]
) -> Tensor:
    if count == 0:
        return torch.zeros_like(candidates)
    scores = _scores(score, group, ~candidates)
    if soft:
        return select_weighted(scores.log(), candidates, count, *key)
    return select_smallest(-scores, candidates, count, key)


def _scores(score: Callable[[Tensor], Tensor], group: Group, active: Tensor) -> Tensor:
    """Scores of all entries of a group, flat [size]; each weight in it is a network of its own."""
    parts = list(torch.split(active, [block.size for block in group.blocks]))
    for name in dict.fromkeys(block.weight.name for block in group.blocks):
        own = [k for k, block in enumerate(group.blocks) if block.weight.name == name]
        columns = group.blocks[own[0]].across
        links = torch.cat([parts[k] for k in own]).view(-1, columns).to(torch.float32)
        scored = torch.split(score(links).flatten(), [parts[k].numel() for k in own])
        for k, part in zip(own, scored, strict=True):
            parts[k] = part
    return torch.cat(parts)


def ch2_l3n(links: Tensor) -> Tensor:
    """The scores of CH2L3NodeGrowth [rows, columns]; links: 1 or 0, float [rows, columns]."""
    return _through_rows(links) + _through_rows(links.T).T


def _through_rows(links: Tensor) -> Tensor:
    """The part of the sum whose nodes are rows: those with a link to column v that share a column with row u."""
    degrees = links.sum(1)
    parts = []
    for rows in torch.split(links, max(1, PIECE // len(links))):
        inside = rows @ links.T  # i(z2), [u, z2]
        weights = torch.where(inside > 0, (1 + inside) / (degrees - inside).clamp_min(1), 0.0)
        parts.append(weights @ links)
    return torch.cat(parts)


def ch3_l3(links: Tensor) -> Tensor:
    """The scores of CH3L3Growth [rows, columns]; links: 1 or 0, float [rows, columns]."""
    row_degrees, column_degrees = links.sum(1), links.sum(0)
    scores = torch.zeros_like(links)
    for v in range(links.shape[1]):
        near = links[links[:, v] > 0]  # the rows z2 with a link to v, [z2, columns]
        if not len(near):
            continue
        of_columns = (column_degrees - near.sum(0)).clamp_min(1).rsqrt()  # 1 / sqrt(1 + e(z1))
        of_rows = (row_degrees[links[:, v] > 0] - links @ near.T).clamp_min(1).rsqrt()  # 1 / sqrt(1 + e(z2)), [u, z2]
        scores[:, v] = ((links * of_columns) @ near.T * of_rows).sum(1)
    return scores
