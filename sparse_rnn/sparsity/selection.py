"""Exact selection: counts and masks with exactly as many entries as asked for."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_rnn.core.random import generator


def apportion(total: int, shares: Sequence[float], capacities: Sequence[int]) -> list[int]:
    """Split `total` into integers that are proportional to `shares`, respect `capacities` and sum to `total`.

    What exceeds a capacity goes to the others in proportion to their shares. Shares that are all zero count as equal,
    a share that is not finite as zero. Raises ValueError if `total` does not fit into the capacities.
    """
    if not 0 <= total <= sum(capacities):
        raise ValueError(f"cannot place {total} entries into {sum(capacities)} positions")
    result = [0] * len(shares)
    left = total
    # First fill whatever its quota would overflow, one round at a time, since each round raises the quotas of the
    # others. Then round down and give the rest, fewer entries than parts, to the largest remainders, ties to the first.
    while left:
        open_ = [i for i, c in enumerate(capacities) if result[i] < c]
        weights = [max(float(shares[i]), 0.0) if math.isfinite(shares[i]) else 0.0 for i in open_]
        scale = sum(weights)
        if not scale > 0:
            weights, scale = [1.0] * len(open_), float(len(open_))
        quotas = [left * w / scale for w in weights]
        full = [i for i, q in zip(open_, quotas, strict=True) if q >= capacities[i] - result[i]]
        if full:
            for i in full:
                left -= capacities[i] - result[i]
                result[i] = capacities[i]
            continue
        for i, q in zip(open_, quotas, strict=True):
            result[i] += int(q)
        rest = left - sum(int(q) for q in quotas)
        by_remainder = sorted(range(len(open_)), key=lambda k: (int(quotas[k]) - quotas[k], k))
        for k in by_remainder[:rest]:
            result[open_[k]] += 1
        left = 0
    return result


def select_smallest(values: Tensor, candidates: Tensor, count: int, key: tuple[object, ...] | None = None) -> Tensor:
    """A mask of exactly `count` candidates with the smallest values, bool [n]; NaN counts as infinite.

    Ties go to the lower index or, with a `key`, to positions that are drawn with it: among many equal values, as the
    zero gradients of words that a minibatch lacks, the index would decide.

    values: [n]; candidates: bool [n]. Raises ValueError if there are too few candidates.
    """
    if count == 0:
        return torch.zeros_like(candidates)
    offered = values[candidates]
    if not 0 <= count <= offered.numel():
        raise ValueError(f"cannot select {count} of {offered.numel()} candidates")
    # The count-th smallest value is found without sorting. All that is below it is chosen, and as many of its ties as
    # are missing: choosing by `<=` would take every tie, and with them too many entries.
    threshold = kth_smallest(offered, count)
    if math.isnan(threshold):
        return select_smallest(values.nan_to_num(nan=math.inf, posinf=math.inf), candidates, count, key)
    chosen = candidates & (values < threshold)
    ties = (candidates & (values == threshold)).nonzero().flatten()
    if key is not None:
        ties = ties[torch.randperm(ties.numel(), generator=generator(*key)).to(ties.device)]
    chosen[ties[: count - int(chosen.count_nonzero())]] = True
    return chosen


def kth_smallest(values: Tensor, k: int) -> float:
    """The k-th smallest value (from 1) of a vector; on the CPU by numpy's partition, which is several times faster."""
    if values.device.type == "cpu":
        known = values.float() if values.dtype == torch.bfloat16 else values
        return float(np.partition(known.numpy(), k - 1)[k - 1])
    return float(torch.kthvalue(values, k).values)


def select_random(candidates: Tensor, count: int, *key: object) -> Tensor:
    """A mask of exactly `count` candidates, each equally likely, bool [n]; candidates: bool [n].

    The draw depends on `key` alone, not on the device or on earlier draws.
    """
    keys = torch.rand(candidates.numel(), generator=generator(*key)).to(candidates.device)
    return select_smallest(keys, candidates, count)
