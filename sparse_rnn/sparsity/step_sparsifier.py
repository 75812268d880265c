"""The sparsifier of other people's training loops: it counts steps, and trusts neither optimizer nor loop."""

import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_rnn.core.errors import ConfigError, Diverged
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.divergence import Divergence, odd_value
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.optimizer_state import optimizers_within, restart_history
from sparse_rnn.sparsity.rules.growth import GrowthRule, Signal
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier, UpdateReport
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.sparsity.watched_optimizer import WatchedOptimizer, gradients_of
from sparse_rnn.sparsity.watched_weights import EarlierValues, Fit, WatchedWeights


class PackedWeights(Protocol):
    """Weights that hold active values alone while they train, as backends.cpu.own_modules.KernelWeights."""

    def pack(self) -> None:
        """From masked weights to active values."""

    def unpack(self) -> None:
        """Back to masked weights."""

    def release(self) -> None:
        """Back to masked weights, for good."""


class StepSparsifier(Sparsifier):
    """A Sparsifier that counts the optimizer's steps itself: `step` of `steps` are done.

    A clock that is passed takes precedence over the count. After `steps` the topology no longer changes.

    Inactive weights are zero after every `after_step`, whatever the optimizer and the loop do. Weights and states that
    were loaded, or written in place, are masked in the next `before_step`, so that the states of module, optimizer and
    sparsifier can be restored in any order. Weights of another topology are refused there. `check` looks at any time.

    backend: `masked`, or `sparse` where the kernels compute; backend_reason: why, in a phrase.
    """

    backend, backend_reason = "masked", ""

    def __init__(
        self,
        config: SparsifierConfig,
        growth: GrowthRule,
        topology: SparseTopology,
        optimizer: Optimizer,
        *,
        steps: int,
        seed: int,
        module: nn.Module,
    ) -> None:
        averaged = any(isinstance(each, AveragedSGD) for each in optimizers_within(optimizer))
        signal: Signal = "gradient" if averaged else "momentum"
        self._earlier = EarlierValues.of(topology, optimizer)
        super().__init__(config, growth, topology, optimizer, seed=seed, momentum_signal=signal)
        topology.enforce(optimizer)
        self._earlier.settle()
        self.steps, self.step = steps, 0
        self._begun = self._restored = self._asked_to_move = False
        self._odd_gradient = ""
        self._weights = WatchedWeights(module, topology)
        self._watch = WatchedOptimizer(optimizer, self.before_step)
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        named = {name: p for name, p in module.named_parameters() if p in trained and p.is_floating_point()}
        self._divergence = Divergence(named)
        self._packed: PackedWeights | None = None
        self._unfit = False  # whether what was loaded cannot be right, which `before_step` says
        self.before_backward()

    def pack_with(self, make: Callable[[Callable[[], bool]], PackedWeights]) -> None:
        """Let weights be packed while they train; `make` gets what the first forward pass of training calls."""
        self._packed = make(self.start_forward)
        weakref.finalize(self, self._packed.release).atexit = False

    def start_forward(self) -> bool:
        """Pack masked weights before the first forward pass of training; whether they are packed now.

        What was loaded or written is masked then. If something is wrong with it, `before_step` says so.
        """
        if self._packed is None or self._begun or self._unfit:
            return False
        try:
            self._settle()
        except RuntimeError:
            self._unfit = True
            return False
        self._packed.pack()
        self._weights.remember()
        self.before_backward(self._coming)  # what is watched is new
        return True

    def before_backward(self, clock: Clock | None = None) -> None:
        """To be called before the forward pass, but only with a clock of one's own: it calls itself after each step."""
        self._coming = clock or self._clock(self.step + 1)
        super().before_backward(self._coming)

    def before_step(self, clock: Clock | None = None) -> None:
        """Mask the gradients: to be called after `backward()`, before clipping and the optimizer's step.

        Called again before the step, as by an optimizer that evaluates a closure, it masks them again. Raises
        RuntimeError without the `after_step` of the last step, and what `check` raises for weights that were exchanged
        or belong to another topology.
        """
        if self._begun and self._watch.stepped and not self._watch.in_closure:
            raise RuntimeError("call sparsifier.after_step() after the optimizer's step")
        clock = clock or self._clock(self.step + 1)
        if not self._begun:
            self._unfit = False
            self._settle()
            self._watch.begin()
            self._read(clock)
            # Without any gradient there is nothing to move: such a step counts, whoever makes it.
            self._asked_to_move = bool(gradients_of(self.optimizer))
            self._begun = True
        self.topology.mask_gradients()

    def after_step(self, clock: Clock | None = None) -> UpdateReport | None:
        """Update the topology if an update is due: to be called after the optimizer's step; returns its report.

        A step that the optimizer left out, as where a GradScaler found gradients that are not finite, does not count.
        Raises RuntimeError without `before_step`, or if the optimizer has not stepped, and Diverged if a weight or a
        gradient is no longer finite.
        """
        if not self._begun:
            raise RuntimeError("call sparsifier.before_step() between backward() and the optimizer's step")
        self._begun = False
        self.topology.mask_weights()
        try:
            if self._asked_to_move and not self._watch.stepped and self._left_out():
                return None
            self.step = clock.step if clock else self.step + 1
            self._divergence.look(self.step)
            if self._odd_gradient:
                raise Diverged(f"{self._odd_gradient} in step {self.step}: lower the learning rate.")
            return super().after_step(clock or self._clock(self.step))
        finally:
            self._weights.remember()
            self.before_backward()

    def update(self, clock: Clock) -> UpdateReport:
        """Remove, redistribute and grow now; see `Sparsifier.update`."""
        report = super().update(clock)
        restart_history(self.optimizer)
        return report

    def _left_out(self) -> bool:
        """Whether the optimizer left the step out; raises RuntimeError if it has yet to make it."""
        gradients = gradients_of(self.optimizer)
        if not gradients or any(map(odd_value, gradients)):
            return True
        if self._watch.has_reported:
            raise RuntimeError(
                "the optimizer has not stepped since sparsifier.before_step(): call sparsifier.after_step() after its "
                "step, and neither of them where gradients are only accumulated"
            )
        return False  # of an optimizer that has never reported a step, as one that is compiled

    @torch.no_grad()
    def _read(self, clock: Clock) -> None:
        """Read the signals that are needed, unless a gradient is not finite: a GradScaler leaves such a step out."""
        self._odd_gradient = ""
        if self._signals_read(clock):
            for weight in self.topology:
                if weight.parameter.grad is not None and (kind := odd_value(weight.parameter.grad)):
                    self._odd_gradient = f"The gradient of {weight.name} became {kind}"
                    return
            self.read_signals(clock)

    @torch.no_grad()
    def _settle(self) -> None:
        """Mask what was written or loaded since the last step; raises RuntimeError for what cannot be right."""
        self._weights.refuse_exchanged()
        written = list(self.topology) if self._restored else self._weights.written()
        if written:
            self._refuse_another_topology(Fit.of(written))
            for weight in written:
                weight.storage.clear(weight.parameter)
        self._refuse_earlier()
        if self._watch.loaded or self._restored:
            self.topology.enforce(self.optimizer)
        self._watch.loaded = self._restored = False
        self._earlier = EarlierValues()

    @property
    def _starts_dense(self) -> bool:
        return self.config.initial == "dense" or self.config.warms_up

    def _refuse_another_topology(self, fit: Fit) -> None:
        # A dense start is one with all weights: none is lost, though many may be gone.
        if fit.of_another_topology and (fit.lost or (self._starts_dense and not self.step)):
            self._refuse(fit)

    def _refuse_earlier(self) -> None:
        """Refuse weights that were restored before `sparsify`, and whose topology did not follow."""
        written = {weight.name for weight in self._weights.written()}
        fit = self._earlier.fit([weight for weight in self.topology if weight.name not in written])
        if fit.of_another_topology and (self._earlier.trained or self._earlier.nonzero <= self._target):
            self._refuse(fit)

    def _refuse(self, fit: Fit) -> NoReturn:
        raise RuntimeError(
            f"{fit.dead:,} of {fit.active:,} active weights are zero: the weights were saved with another topology, so "
            "restore the state of the sparsifier that was saved with them."
        )

    def check(self) -> None:
        """Raise RuntimeError or Diverged unless every inactive weight is zero and every weight is the module's own.

        The sentence names the weight.
        """
        self._weights.refuse_exchanged()
        for weight in self.topology:
            values = weight.parameter.data
            if kind := odd_value(values):
                raise Diverged(f"{weight.name} holds {kind}: lower the learning rate or clip the gradients.")
            if lost := weight.storage.outside(values):
                raise RuntimeError(
                    f"{lost:,} of {weight.size - weight.active:,} inactive entries of {weight.name} are not zero: "
                    "sparsifier.before_step() masks weights that were loaded or written."
                )
        if self._restored or self._weights.written():
            self._refuse_another_topology(Fit.of(self.topology))
        self._refuse_earlier()

    @property
    def sparsity(self) -> float:
        """The share of the sparse weights' entries that are inactive and zero, as they are now."""
        used = sum(weight.active + weight.storage.outside(weight.parameter.data) for weight in self.topology)
        return 1 - used / self.topology.size

    @property
    def next_update(self) -> int | None:
        """The step after which the topology is updated next; None if it no longer is."""
        if self._warming:
            return self.config.dense_steps
        if not self.config.dynamic:
            return None
        interval = int(self.config.update_interval)
        edges = [math.floor(share * self.steps) for share in self.schedule.edges]
        first = max(self.step, edges[0])
        regular = [interval * (first // interval + offset) for offset in range(3)]
        possible = sorted({*regular, *(edge + offset for edge in edges for offset in range(-1, 3))})
        return next((step for step in possible if step > self.step and self._due(self._clock(step), False)), None)

    def __repr__(self) -> str:
        following = "no further update" if self.next_update is None else f"next update after step {self.next_update:,}"
        return (
            f"<{type(self).__name__} backend={self.backend} method={self.config.name} growth={self.growth.name} "
            f"sparsity={self.sparsity:.4f} step {self.step:,} of {self.steps:,}, {following}>"
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a sparsifier belongs to one module and optimizer: save its state_dict() instead of a copy")

    def _clock(self, step: int) -> Clock:
        return Clock(step=step, epoch=0, epochs=1, batch=step, batches=self.steps)

    def state_dict(self) -> dict[str, Any]:
        """The state of the Sparsifier and the number of steps done."""
        self._divergence.read()
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the caller restores the weights and the optimizer's state.

        They may be restored before or after this. Raises ConfigError for the state of another sparsifier.
        """
        try:
            self._refuse_state(state)
            if self._packed is not None:
                self._packed.unpack()
            self._earlier.put_back()
            self._earlier = EarlierValues()
            super().load_state_dict(state)
            self.step = int(state["step"])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ConfigError("This is not a state that this method's sparsifier returned by state_dict().") from error
        self._begun, self._unfit, self._restored = False, False, True
        self.before_backward()

    def _refuse_state(self, state: Mapping[str, Any]) -> None:
        shapes = {name: list(stored["shape"]) for name, stored in state["topology"].items()}
        own = {weight.name: list(weight.shape) for weight in self.topology}
        if differing := sorted(name for name in {**own, **shapes} if own.get(name) != shapes.get(name)):
            theirs, ours = (_shaped(each.get(differing[0])) for each in (shapes, own))
            raise ConfigError(
                f"{differing[0]} is {theirs} in the sparsifier's state and {ours} here: call sparsify on the same "
                "module and with the same arguments as the first time."
            )
        changes = self.config.prunes or self.config.warms_up
        if not changes and state["target"] != self._target:
            raise ConfigError(
                f"The sparsifier's state has {state['target']:,} active weights, and sparsify was asked for "
                f"{self._target:,}: call it with the same arguments as the first time."
            )


def _shaped(shape: list[int] | None) -> str:
    return "dense" if shape is None else f"sparse of shape {shape}"
