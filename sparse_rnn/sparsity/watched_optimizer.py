"""What `sparsify` has to know of an optimizer: whether it has stepped, and whether another state was loaded."""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sparse_rnn.sparsity.optimizer_state import optimizers_within


class WatchedOptimizer:
    """Hooks on an optimizer, and on those that it wraps; they go when this object does, and keep nothing alive.

    stepped: whether it has moved the weights since `begin`; not where a GradScaler found gradients that are not finite.
    has_reported: whether it ever has.
    loaded: whether a state was loaded since this was last set to false. in_closure: whether `step` evaluates a closure,
    after which `before_step` is called, a bound method: the gradients are new.
    """

    def __init__(self, optimizer: Optimizer, before_step: Callable[[], None]) -> None:
        self.stepped = self.has_reported = self.loaded = self.in_closure = False
        self._before_step = weakref.WeakMethod(before_step)
        # An optimizer that never initialised torch's base class, as Accelerate's wrapper, has no hooks to call.
        hooked = [each for each in optimizers_within(optimizer) if "_optimizer_step_pre_hooks" in vars(each)]
        me = weakref.ref(self)
        handles: list[RemovableHandle] = []
        for each in hooked:
            handles.append(each.register_step_pre_hook(partial(_before, me)))
            handles.append(each.register_step_post_hook(partial(_after, me)))
            handles.append(each.register_load_state_dict_post_hook(partial(_loaded, me)))
        weakref.finalize(self, _remove, handles).atexit = False

    def begin(self) -> None:
        """A new step begins."""
        self.stepped = False

    def masked(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A closure after each evaluation of which `before_step` has been called."""

        def evaluate() -> Any:
            self.in_closure = True
            try:
                loss = closure()
                if before_step := self._before_step():
                    before_step()
            finally:
                self.in_closure = False
            return loss

        return evaluate


Watch = weakref.ReferenceType[WatchedOptimizer]


def _before(watch: Watch, optimizer: Optimizer, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Let the step evaluate its closure, if it has one, with masked gradients; args: the optimizer, then step's own."""
    watched = watch()
    if watched is None:
        return None
    if len(args) > 1 and callable(args[1]):
        return (args[0], watched.masked(args[1]), *args[2:]), kwargs
    if callable(kwargs.get("closure")):
        return args, {**kwargs, "closure": watched.masked(kwargs["closure"])}
    return None


def _after(watch: Watch, optimizer: Optimizer, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    watched = watch()
    found_inf = getattr(optimizer, "found_inf", None)  # how a GradScaler tells a fused optimizer to skip the step
    if watched is not None and not (isinstance(found_inf, Tensor) and bool(found_inf)):
        watched.stepped = watched.has_reported = True


def _loaded(watch: Watch, optimizer: Optimizer) -> None:
    watched = watch()
    if watched is not None:
        watched.loaded = True


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients of an optimizer's parameters, as far as they have one."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
