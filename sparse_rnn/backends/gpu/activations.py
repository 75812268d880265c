"""Activations in float32 for Triton kernels."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    """The hyperbolic tangent; near 0 by its series, where 1 - exp(-2 |x|) would lose most digits."""
    square = x * x
    series = 1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835))))
    power = tl.exp(-2 * tl.abs(x))
    far = (1 - power) / (1 + power)
    return tl.where(square < 0.0625, x * series, tl.where(x < 0, -far, far))


@triton.jit
def load(pointers, inside):  # type: ignore[no-untyped-def]
    """The values as float32; 0 where not `inside`."""
    return tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
