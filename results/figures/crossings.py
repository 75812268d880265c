"""How many parameters a sparse network needs to match the dense one (Selfish-RNN section 5.4 and appendix F)."""

from collections.abc import Sequence
from itertools import pairwise


def crossing(sparsities: Sequence[float], perplexities: Sequence[float], dense: float) -> float | None:
    """The highest sparsity at which the perplexity, interpolated linearly between the points, is at most `dense`.

    Of several crossings that is the one with the fewest parameters. The highest of `sparsities` if the network is as
    good there: where it stops being so is not known then. None if it never is. Points that are NaN are left out, an
    infinite one is never reached.
    """
    points = sorted((s, p) for s, p in zip(sparsities, perplexities, strict=True) if p == p)
    if points and points[-1][1] <= dense:
        return points[-1][0]
    for (left, low), (right, high) in reversed(list(pairwise(points))):
        if low <= dense < high:
            return left + (right - left) * (dense - low) / (high - low)
    return None
