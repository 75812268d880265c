"""How a layer shows to growth rules what its weights read and what came out of it."""

from collections.abc import Callable

from torch import Tensor

ActivationListener = Callable[[Tensor, Tensor, Tensor], None]
"""Called with a weight [rows, columns], what its columns read [..., columns], and what came out for its rows
[..., rows], or for the units [..., units] that have one row in each gate, gate after gate.

A layer whose class has the attribute `activation_listener`, None by default, calls it for all weights of its own and of
the modules inside it, in every forward pass in which it is set.
"""
