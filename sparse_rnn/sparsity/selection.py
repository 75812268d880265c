"""Exact selection: counts and masks with exactly as many entries as asked for."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_rnn.core.random import position_keys


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
    offered = values[positions_of(candidates)]
    _check_count(count, offered.numel())
    # The count-th smallest value is found without sorting. All that is below it is chosen, and as many of its ties as
    # are missing: choosing by `<=` would take every tie, and with them too many entries.
    threshold = kth_smallest(offered, count)
    if bool(threshold.isnan()):
        return select_smallest(values.nan_to_num(nan=math.inf, posinf=math.inf), candidates, count, key)
    chosen = candidates & (values < threshold)
    ties = positions_of(candidates & (values == threshold))
    missing = count - int(chosen.count_nonzero())
    ties = ties[:missing] if key is None else _drawn(ties, missing, key)
    return chosen.index_fill_(0, ties, True)


def select_random(candidates: Tensor, count: int, *key: object) -> Tensor:
    """A mask of exactly `count` candidates, each equally likely, bool [n]; candidates: bool [n].

    The draw depends on `key` alone, not on the device or on earlier draws. Raises ValueError if there are too few
    candidates.
    """
    chosen = torch.zeros_like(candidates)
    if count == 0:
        return chosen
    positions = positions_of(candidates)
    _check_count(count, positions.numel())
    return chosen.index_fill_(0, _drawn(positions, count, key), True)


def select_within(values: Tensor, candidates: Tensor, counts: Tensor, key: tuple[object, ...]) -> Tensor:
    """A mask of exactly `counts[i]` candidates of each row i with the smallest values, bool [rows, n].

    NaN counts as infinite; ties go to positions that are drawn with `key`. values: [rows, n]; candidates: bool
    [rows, n]; counts: int64 [rows]. Raises ValueError if a row has too few candidates.
    """
    if bool((counts > candidates.sum(1)).any()):
        raise ValueError("a row has fewer candidates than are to be selected")
    chosen = torch.zeros_like(candidates)
    rows = positions_of(counts > 0)
    width = candidates.shape[1]
    places = rows[:, None] * width + torch.arange(width, device=rows.device)
    # Sorted by what is drawn, then, without changing the order of ties, by value.
    drawn = position_keys(places.flatten(), *key).view_as(places).argsort(1)
    finite = torch.finfo(values.dtype).max
    offered = values[rows].nan_to_num(nan=finite).masked_fill(~candidates[rows], torch.inf).gather(1, drawn)
    order = drawn.gather(1, offered.argsort(dim=1, stable=True))
    first = torch.arange(width, device=rows.device) < counts[rows, None]
    chosen[rows] = torch.zeros_like(first).scatter_(1, order, first)
    return chosen


def select_weighted(log_weights: Tensor, candidates: Tensor, count: int, *key: object) -> Tensor:
    """A mask of exactly `count` candidates, bool [n], drawn one after the other without putting them back.

    Each draw takes a candidate with a probability in proportion to its weight; those of weight zero are taken last, at
    random. The draw depends on `key` alone and, within rounding, not on the device.

    log_weights: logarithms of the weights, [n], -inf for zero; candidates: bool [n]. Raises ValueError if there are too
    few candidates.
    """
    # If each candidate waits for an exponential time with its weight as the rate, the first ones to come are such a
    # draw (Efraimidis & Spirakis 2006). Only the order counts: logarithms of the times do not overflow.
    positions = positions_of(candidates)
    uniform = (position_keys(positions, *key).double() + (2**31 + 0.5)) / 2**32
    times = torch.full(candidates.shape, math.inf, dtype=torch.float64, device=candidates.device)
    times[positions] = (-uniform.log()).log() - log_weights[positions].double()
    return select_smallest(times, candidates, count, (*key, "ties"))


def positions_of(mask: Tensor) -> Tensor:
    """Where a bool tensor is True, as row-major indices in ascending order, int64 [number of True], on its device."""
    if mask.device.type == "cpu":  # numpy is several times faster
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().flatten()


def _drawn(positions: Tensor, count: int, key: tuple[object, ...]) -> Tensor:
    """Exactly `count` of some positions, from 1 to all of them, each equally likely, int64 [count]."""
    if count == positions.numel():
        return positions
    keys = position_keys(positions, *key)
    return positions[positions_of(keys <= kth_smallest(keys, count))]  # no two keys are equal


def _check_count(count: int, offered: int) -> None:
    if not 0 <= count <= offered:
        raise ValueError(f"cannot select {count} of {offered} candidates")


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value (from 1) of a vector [n], of its dtype and on its device; NaN is larger than all others.

    The fastest way differs: on the CPU a partition of numpy, on a GPU `topk`, which uses all of it (torch.kthvalue uses
    one thread block).
    """
    return _by_partition(values, k) if values.device.type == "cpu" else _by_topk(values, k)


def _by_partition(values: Tensor, k: int) -> Tensor:
    known = values.float() if values.dtype == torch.bfloat16 else values
    return torch.tensor(np.partition(known.numpy(), k - 1)[k - 1], dtype=values.dtype)


def _by_topk(values: Tensor, k: int) -> Tensor:
    return values.topk(k, largest=False, sorted=False).values.max()
