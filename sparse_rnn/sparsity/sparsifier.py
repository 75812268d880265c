"""A method at work: when the topology changes, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.core.random import generator
from sparse_rnn.core.registry import lookup
from sparse_rnn.sparsity.coactivation import Coactivation
from sparse_rnn.sparsity.exploration import Exploration
from sparse_rnn.sparsity.groups import Group, whole_of
from sparse_rnn.sparsity.method import (
    Part,
    SparsifierConfig,
    initial_counts,
    make_removal,
    make_schedule,
    make_structure,
    parts_of,
    signals_needed,
)
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.perturbation import Perturbation
from sparse_rnn.sparsity.reserve import Reserve
from sparse_rnn.sparsity.rules.growth import (
    DENSE_GRADIENTS,
    EVERY_STEP,
    GradientGrowth,
    GrowthRule,
    MomentumGrowth,
    Signal,
    Signals,
)
from sparse_rnn.sparsity.rules.initial import saliency_of
from sparse_rnn.sparsity.rules.redistribution import Budget
from sparse_rnn.sparsity.rules.removal import Moment
from sparse_rnn.sparsity.selection import select_smallest
from sparse_rnn.sparsity.storage import DenseGradients, Gradient
from sparse_rnn.sparsity.structure import ConstantUnits, Regrowth
from sparse_rnn.sparsity.topology import SparseTopology


@dataclass(frozen=True, slots=True)
class Clock:
    """How far training is: `step` optimizer steps, `batch` of `batches` in the epoch, `epoch` of `epochs` done."""

    step: int
    epoch: int
    epochs: int
    batch: int
    batches: int

    @property
    def progress(self) -> float:
        """The share of training that is done, in [0, 1]."""
        return min((self.epoch + self.batch / self.batches) / self.epochs, 1.0)

    def later(self, steps: int) -> "Clock":
        """The clock after some more steps, if all epochs have as many batches."""
        epochs, batch = divmod(self.batch + steps - 1, self.batches)
        return Clock(self.step + steps, self.epoch + epochs, self.epochs, batch + 1, self.batches)


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one topology update did: how many weights it removed and grew, at which rate, and how many are active."""

    removed: int
    grown: int
    rate: float
    active: int


class Sparsifier:
    """Decides when and how a topology changes; optimizers and models know nothing about it.

    It draws the first topology when it is made or, after a warm-up, by the magnitude of the weights. A training loop
    then calls, in this order:

    1. `before_backward` before the forward pass, so that dense gradients and activations can be read where a rule
       needs them.
    2. `before_step` after the backward pass and before clipping: it reads the dense signals, then masks the gradients.
    3. `after_step` after the optimizer's step: it updates the topology if the interval is a number of steps.
    4. `after_epoch` after the validation: it updates the topology if the interval is an epoch.

    An update removes weights from every group, redistributes their number, and grows as many. The number of active
    weights is the same after every update; where the schedule prunes, it is the number that the schedule asks for.

    seed: for growth. init_seed: for the first topology, `seed` by default. scores: by weight name; the entries
    with the largest ones make the first topology, see sparsity.saliency. momentum_signal: `gradient` where the dense
    gradient takes the place of the momentum, as under averaged SGD, which has none.
    """

    def __init__(
        self,
        config: SparsifierConfig,
        growth: GrowthRule,
        topology: SparseTopology,
        optimizer: Optimizer,
        *,
        seed: int,
        init_seed: int | None = None,
        scores: Mapping[str, Tensor] | None = None,
        protocol: ProtocolConfig | None = None,
        momentum_signal: Signal = "momentum",
    ) -> None:
        self.config, self.growth, self.topology, self.optimizer = config, growth, topology, optimizer
        self.seed = seed
        self.protocol = protocol or ProtocolConfig()
        self.schedule = make_schedule(config)
        self.removal = make_removal(config)
        self.perturbation = Perturbation(config.noise, config.l1) if config.noise or config.l1 else None
        self.redistribution = lookup("redistribution", config.redistribution)()
        self.structure = make_structure(config)
        self.parts = parts_of(config, topology, config.scope)
        needs = signals_needed(config, growth)
        self.momentum_signal: Signal = momentum_signal
        self.momentum_beta = growth.beta if isinstance(growth, MomentumGrowth) else MomentumGrowth.beta
        self.minibatches = growth.minibatches if isinstance(growth, GradientGrowth) else 1
        self.needs = frozenset(momentum_signal if signal == "momentum" else signal for signal in needs)
        self._signals: dict[Signal, Mapping[str, Tensor]] = {}
        self._coactivation = Coactivation(topology) if "activations" in needs else None
        self.reserve = Reserve(topology, optimizer, config.backward_sparsity) if "reserve" in needs else None
        self._warming = config.warms_up
        self._drawn = initial_counts(config, topology)
        self._target = topology.size if self._warming else self._drawn_total
        if scores is not None:
            self._choose_topology(scores, seed if init_seed is None else init_seed)
        elif saliency_of(config.initial) is not None:
            raise ValueError(f"initial={config.initial} chooses by scores, and there are none")
        elif not self._warming:
            self._draw_topology(seed if init_seed is None else init_seed)
        if self.reserve:
            self.reserve.begin(self.groups)
        self._exploration: Exploration | None = None
        self._begin()

    def _begin(self) -> None:
        """What follows the draw of the first topology, and stands in for it while training is dense."""
        if self.removal:
            self.removal.begin(self.topology, self.seed)
        self._exploration = Exploration(self.topology) if self.config.dynamic else None

    @property
    def groups(self) -> list[Group]:
        """All groups."""
        return [group for part in self.parts for group in part.groups]

    @property
    def _drawn_total(self) -> int:
        return sum(count * group.unit for group, count in self._drawn)

    @torch.no_grad()
    def _choose_topology(self, scores: Mapping[str, Tensor], seed: int) -> None:
        whole = whole_of(self.topology)
        everywhere = torch.ones_like(whole.active)
        chosen = select_smallest(-whole.gather(scores), everywhere, self._target, (seed, "initial"))
        whole.scatter(chosen, {weight.name: weight.mask for weight in self.topology})
        self.topology.mask_weights()

    @torch.no_grad()
    def _draw_topology(self, seed: int) -> None:
        masks = {weight.name: weight.mask for weight in self.topology}
        for group, count in self._drawn:
            # Drawn on the CPU by torch's generator, unlike growth, so that every run starts from the masks that it
            # always had. It happens once.
            keys = torch.rand(group.size, generator=generator(seed, "initial", group.name))
            group.scatter(self.structure.draw(group, keys.to(group.active.device), count), masks)
        self.topology.mask_weights()

    def _end_warm_up(self) -> UpdateReport:
        """Draw the first topology: in each group, the weights of the largest magnitude stay."""
        with self.topology.open_masks() as masks:
            for group, count in self._drawn:
                group.scatter(self.structure.draw(group, -group.values.abs(), count), masks)
            for name, mask in masks.items():
                self._replace(name, mask, ~mask)
        if self.reserve:
            self.reserve.choose(self.groups)
        self._begin()
        self._warming, self._target = False, self._drawn_total
        self._forget_last_minibatch()
        return UpdateReport(self.topology.size - self._target, 0, 0.0, self.topology.active)

    @property
    def at_target(self) -> bool:
        """Whether the network is as sparse as asked for: only then may it be kept as the best."""
        return not self._warming and (not self.config.prunes or self._target == self._pruned_target(1.0))

    @property
    def sparsity(self) -> float:
        """The inactive share of the sparse weights, by the target of the last update; 0 if there are no weights."""
        return 1.0 - self._target / self.topology.size if self.topology.size else 0.0

    @property
    def final_sparsity(self) -> float:
        """The sparsity of the network at the end of training."""
        final = self._drawn_total if self._warming else self._target
        final = self._pruned_target(1.0) if self.config.prunes else final
        return 1.0 - final / self.topology.size if self.topology.size else 0.0

    @property
    def explored(self) -> float | None:
        """The share of the sparse weights' entries that have ever been active (R_s of ITOP, Liu et al. 2021).

        None if there are no sparse weights, or if training began without counting, in an older version.
        """
        if not self.config.dynamic and self.topology.size:
            return self.topology.active / self.topology.size
        return self._exploration.rate if self._exploration else None

    def _pruned_target(self, progress: float) -> int:
        return sum(sum(self.structure.kept(p.groups, p.schedule, progress)) * p.unit for p in self.parts)

    def facts(self, clock: Clock) -> dict[str, float]:
        """What is logged of the schedule: the removal rate and, for pruning, the sparsity asked for."""
        asked = {"sparsity/asked": self.schedule.sparsity(clock.progress)} if self.config.prunes else {}
        return asked | ({"rate/removal": self.schedule.rate(clock.progress)} if self.config.regrows else {})

    def before_backward(self, clock: Clock) -> None:
        """Watch what `before_step` will read; `clock` counts the coming step.

        It may be left out where the weights store all entries and no rule reads activations.
        """
        if read := self._signals_read(clock):
            if read & DENSE_GRADIENTS:
                self.topology.watch_gradients()
            if self._coactivation and "activations" in read:
                self._coactivation.watch()

    @torch.no_grad()
    def before_step(self, clock: Clock) -> None:
        """Read the dense signals that are needed, then mask the gradients; `clock` counts the coming step."""
        self.read_signals(clock)
        if self.protocol.masking == "gradient":
            self.topology.mask_gradients()

    @torch.no_grad()
    def read_signals(self, clock: Clock) -> None:
        """The first half of `before_step`, for an optimizer that masks gradients itself."""
        read = self._signals_read(clock)
        gradients = self.topology.gradients() if read & DENSE_GRADIENTS else {}
        if "momentum" in read:
            self._accumulate("momentum", gradients, self.momentum_beta)
        # Masking and clipping change the gradients in place before an update reads them: keep them as they are.
        if "gradient" in read and self.minibatches > 1:
            self._accumulate("gradient", gradients)
        elif "gradient" in read:
            self._signals["gradient"] = DenseGradients({name: each.kept().form for name, each in gradients.items()})
        if "active_gradient" in read:
            self._signals["active_gradient"] = DenseGradients(self.topology.active_gradients())
        if self._coactivation and "activations" in read:
            self._signals["activations"] = self._coactivation.taken()
        if self.reserve:
            self.reserve.see(gradients)

    def keeps_signals(self, clock: Clock) -> bool:
        """Whether `read_signals` keeps something of the coming step, which `clock` counts, for an update."""
        return bool(self._signals_read(clock) - {"momentum"})

    @property
    def lasting_tensors(self) -> list[Tensor]:
        """Masks and accumulated signals, which steps read or write in place."""
        momentum = self._signals.get("momentum", {})
        return [*(weight.mask for weight in self.topology), *(momentum[name] for name in momentum)]

    def _signals_read(self, clock: Clock) -> set[Signal]:
        """What is read in every step and, in a step that a topology update follows, everything else.

        A gradient of several minibatches is read in as many steps before an update.
        """
        due = self._due(clock, False) or (clock.batch == clock.batches and self._due(clock, True))
        near = self.minibatches > 1 and self._update_is_near(clock)
        return {signal for signal in self.needs if signal in EVERY_STEP or due or (near and signal == "gradient")}

    def _update_is_near(self, clock: Clock) -> bool:
        """Whether an update is due at most `minibatches` steps after the one before the clock's."""
        at_epoch_end = self.config.update_interval == "epoch"
        left = clock.batches - clock.batch if at_epoch_end else -clock.step % int(self.config.update_interval)
        return left < self.minibatches and self._due(clock.later(left), at_epoch_end)

    @torch.no_grad()
    def after_step(self, clock: Clock) -> UpdateReport | None:
        """Update the topology if an update is due after this step; returns its report."""
        if self.protocol.masking == "weight":  # the step was dense and has moved inactive weights
            self.topology.mask_weights()
            for weight in self.topology:
                momentum = tensors_like(self.optimizer, weight.parameter).get("momentum_buffer")
                if momentum is not None:
                    weight.storage.clear(momentum)
        if self.reserve:
            self.reserve.step()
        if self.perturbation:
            self.perturbation(self.topology, self.optimizer, self.seed, clock.step)
        return self.update(clock) if self._due(clock, at_epoch_end=False) else None

    def after_epoch(self, clock: Clock, *, triggered: bool = False) -> UpdateReport | None:
        """Update the topology if an update is due after this epoch; returns its report.

        triggered: the validation of this epoch has started the averaging.
        """
        if triggered and not self.protocol.update_at_trigger and not self._warming:
            self._forget_last_minibatch()
            return None
        at_epochs = self.config.update_interval == "epoch" or self._warming
        return self.update(clock) if at_epochs and self._due(clock, True) else None

    def _due(self, clock: Clock, at_epoch_end: bool) -> bool:
        """Whether an update is due after the clock's step or, with `at_epoch_end`, after its epoch.

        None is due at the very end of training, since what grows there would never be trained.
        """
        if self._warming:
            return self._warm_up_ends(clock, at_epoch_end)
        if not self.config.dynamic or clock.progress > self.config.update_until:
            return False
        before = (clock.epoch + (clock.batch - 1) / clock.batches) / clock.epochs
        if self.schedule.turns(before, clock.progress):
            return not at_epoch_end
        if clock.progress >= 1.0 or (self.config.prunes and clock.progress < self.config.prune_start):
            return False
        if self.config.update_interval == "epoch":
            return at_epoch_end
        return clock.step % int(self.config.update_interval) == 0

    def _warm_up_ends(self, clock: Clock, at_epoch_end: bool) -> bool:
        if self.config.dense_epochs:
            return at_epoch_end and clock.epoch + 1 >= self.config.dense_epochs
        return not at_epoch_end and clock.step >= self.config.dense_steps

    @torch.no_grad()
    def update(self, clock: Clock) -> UpdateReport:
        """Remove, redistribute and grow now or, in a warm-up, end it.

        Raises RuntimeError if the number of active weights is not the target.
        """
        if self._warming:
            return self._end_warm_up()
        with self.topology.open_masks() as masks:
            before = {name: mask.clone() for name, mask in masks.items()}
            regained = self._remove(clock, masks)
            survived = {name: mask.clone() for name, mask in masks.items()}
            grown = self._grow(regained, clock, masks, before, survived) if self.config.regrows else 0
            removed = 0
            for name, mask in masks.items():
                old, kept = before.pop(name), survived.pop(name)
                removed += int((old & ~kept).count_nonzero())
                # Whatever did not survive removal starts anew, also what the same update removed and regrew. The
                # official code compares old and new masks alone, so that such an entry keeps its value and state.
                restart = old ^ mask if self.protocol.keep_regrown else (old | mask) & ~kept
                self._replace(name, mask, restart)
        if self.reserve:
            self.reserve.choose(self.groups)
        self._forget_last_minibatch()
        active = self.topology.active
        self._target = self._pruned_target(clock.progress) if self.config.prunes else self._target
        if active != self._target:
            raise RuntimeError(f"an update left {active} active weights instead of {self._target}")
        return UpdateReport(removed, grown, self.schedule.rate(clock.progress), active)

    def _replace(self, name: str, mask: Tensor, restart: Tensor) -> None:
        """Set the mask of a weight; see `SparseTopology.replace`."""
        if self.reserve:
            self.reserve.take(self.topology[name], mask)
        dense_state = self.protocol.masking == "weight"
        self.topology.replace(name, mask, self.optimizer, restart, dense_state=dense_state)
        if self.reserve:
            self.reserve.give(self.topology[name], mask)
        if self._exploration:
            self._exploration.add(name, mask)

    def _remove(self, clock: Clock, masks: Mapping[str, Tensor]) -> list[Budget]:
        """Remove; returns by part how many of the entries that went, or beyond those, each group is to gain."""
        assert self.removal is not None
        at = Moment(self._resolved_signals(), (self.seed, clock.step), clock.progress)
        regained: list[Budget] = []
        total = asked = 0
        for part in self.parts:
            if self._pruned_units:
                self._prune_units(self._pruned_units, part, clock, masks)
            actives = [int(group.active.count_nonzero()) for group in part.groups]
            counts_of = part.schedule.moved if self._pruned_units else part.schedule.counts
            counts = counts_of(actives, part.sizes, clock.progress)
            gone: list[int] = []
            for group, count in zip(part.groups, counts, strict=True):
                active = group.active
                removed = self.removal(group, count, at)
                group.scatter(active & ~removed, masks)
                gone.append(int(removed.count_nonzero()))
            if self._pruned_units:
                excess: Sequence[int] = [0] * len(gone)
            else:
                excess = part.schedule.excess(actives, part.sizes, clock.progress)
            regained.append([(group, n - lost) for group, n, lost in zip(part.groups, gone, excess, strict=True)])
            total, asked = total + sum(gone), asked + sum(counts)
        self.removal.finish(total, asked)
        return regained

    @property
    def _pruned_units(self) -> ConstantUnits | None:
        """The structure, if it is its units that have as many active entries as the schedule asks for."""
        return self.structure if self.config.scheduled and isinstance(self.structure, ConstantUnits) else None

    def _prune_units(self, units: ConstantUnits, part: Part, clock: Clock, masks: Mapping[str, Tensor]) -> None:
        """Remove what units have beyond the schedule's density."""
        density = 1.0 - part.schedule.sparsity(clock.progress)
        for group in part.groups:
            beyond = units.excess(group, density, (self.seed, clock.step, "excess"))
            group.scatter(group.active & ~beyond, masks)

    def _grow(
        self,
        regained: list[Budget],
        clock: Clock,
        masks: Mapping[str, Tensor],
        before: Mapping[str, Tensor],
        survived: Mapping[str, Tensor],
    ) -> int:
        """Grow what is to be regained; a structure may let fewer survive, and then grows more. Returns how many."""
        signals = self._resolved_signals()
        total = 0
        for part, budget in zip(self.parts, regained, strict=True):
            density = 1.0 - part.schedule.sparsity(clock.progress) if self.config.scheduled else None
            for group, count in self.redistribution(budget, signals):
                at = Regrowth(
                    group, group.gather(before), group.active, count, density, signals, (self.seed, clock.step)
                )
                kept, grown = self.structure.refill(self.growth, at)
                group.scatter(kept, survived)
                group.scatter(kept | grown, masks)
                total += int(grown.count_nonzero()) * group.unit
        return total

    def _resolved_signals(self) -> Signals:
        signals = dict(self._signals)
        if self.momentum_signal == "gradient" and "gradient" in signals:
            signals["momentum"] = signals["gradient"]
        if self.reserve:
            signals["reserve"] = self.reserve.values
        return signals

    def _forget_last_minibatch(self) -> None:
        self._signals = {kind: tensors for kind, tensors in self._signals.items() if kind == "momentum"}

    def _accumulate(self, kind: Signal, gradients: Mapping[str, Gradient], beta: float = 1.0) -> None:
        """signal <- beta signal + gradient, for every weight."""
        if kind not in self._signals:
            self._signals[kind] = {w.name: w.parameter.data.new_zeros(w.shape) for w in self.topology}
        signal = self._signals[kind]
        for name, gradient in gradients.items():
            gradient.add_to(signal[name].mul_(beta) if beta != 1 else signal[name])

    def state_dict(self) -> dict[str, Any]:
        """The topology, the target count, the removal rule's state and the dense signals that an update will read."""
        return {
            "topology": self.topology.state_dict(),
            "target": self._target,
            "warming": self._warming,
            "removal": self.removal.state_dict() if self.removal else {},
            "signals": {kind: dict(tensors) for kind, tensors in self._signals.items()},
            "explored": self._exploration.state_dict() if self._exploration else None,
            "reserve": self.reserve.state_dict() if self.reserve else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; raises ValueError if the topology does not fit."""
        self.topology.load_state_dict(state["topology"])
        self._target = state["target"]
        self._warming = state.get("warming", False)
        if self.removal:
            self.removal.load_state_dict(state["removal"])
        if self.reserve:
            self.reserve.load_state_dict(state["reserve"])
        if self._exploration and (explored := state.get("explored")):
            self._exploration.load_state_dict(explored)
        else:
            self._exploration = None  # of a version that did not count
        device = {weight.name: weight.parameter.device for weight in self.topology}
        self._signals = {
            kind: {name: tensor.to(device[name]) for name, tensor in tensors.items()}
            for kind, tensors in state["signals"].items()
        }
