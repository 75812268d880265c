"""`sparsify`: sparsity for any module and optimizer, in three lines of a training loop."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sparse_rnn.core.declarations import GateMap
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.method import SparsifierConfig, refuse_without_gates
from sparse_rnn.sparsity.named_methods import named_method
from sparse_rnn.sparsity.rules.growth import GrowthRule, Signal
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier, UpdateReport
from sparse_rnn.sparsity.topology import SparseTopology


class StepSparsifier(Sparsifier):
    """A Sparsifier that counts the optimizer's steps itself: `step` of `steps` are done.

    A clock that is passed takes precedence over the count. After `steps` the topology no longer changes.
    """

    def __init__(
        self,
        config: SparsifierConfig,
        growth: GrowthRule,
        topology: SparseTopology,
        optimizer: Optimizer,
        *,
        steps: int,
        seed: int,
    ) -> None:
        signal: Signal = "gradient" if isinstance(optimizer, AveragedSGD) else "momentum"
        super().__init__(config, growth, topology, optimizer, seed=seed, momentum_signal=signal)
        self.steps, self.step = steps, 0
        self._gradients_masked = False
        topology.enforce(optimizer)

    def before_step(self, clock: Clock | None = None) -> None:
        """Mask the gradients: to be called after `backward()`, before clipping and the optimizer's step."""
        super().before_step(clock or self._clock(self.step + 1))
        self._gradients_masked = True

    def after_step(self, clock: Clock | None = None) -> UpdateReport | None:
        """Update the topology if an update is due: to be called after the optimizer's step; returns its report.

        Raises RuntimeError without `before_step`, since the optimizer has then moved inactive weights.
        """
        if not self._gradients_masked:
            raise RuntimeError("call sparsifier.before_step() between backward() and the optimizer's step")
        self._gradients_masked = False
        self.step = clock.step if clock else self.step + 1
        return super().after_step(clock or self._clock(self.step))

    def _clock(self, step: int) -> Clock:
        return Clock(step=step, epoch=0, epochs=1, batch=step, batches=self.steps)

    def state_dict(self) -> dict[str, Any]:
        """The state of the Sparsifier and the number of steps done."""
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the caller restores the weights and the optimizer's state."""
        super().load_state_dict(state)
        self.step = state["step"]


def sparsify(
    module: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    steps: int,
    method: str = "selfish",
    growth: str | None = None,
    removal_rate: float = 0.5,
    update_interval: int = 100,
    keep_dense: Sequence[str] = (),
    gates: GateMap | None = None,
    seed: int = 1,
    **settings: Any,
) -> StepSparsifier:
    """Make a module sparse now, and keep it sparse while `optimizer` trains it for `steps` steps.

    sparsity: the inactive share of the sparse weights, in [0, 1). method: a name in conf/sparsifier. growth: a name in
    conf/growth, instead of the method's own rule. removal_rate: at the first update; it falls over `steps`.
    update_interval: in steps. keep_dense: globs of the names of weights that stay dense. gates: the rows of each gate,
    by parameter name, where the modules do not declare them (see `find_gates`); a weight without gates is one group.
    settings: other keys of the method, such as `scope="cell"`.

    Neither Hydra's nor OmegaConf's global state is touched. Raises ConfigError for what does not exist or fit.
    """
    if settings.get("backend") == "sparse":
        raise ConfigError("sparsify masks dense weights: backend=sparse is for the runs of sparse_rnn.train.")
    if settings.get("epsilon") is not None:
        raise ConfigError("epsilon would set the sparsity a second time: leave epsilon out.")
    chosen = {"sparsity": sparsity, "removal_rate": removal_rate, "update_interval": update_interval, **settings}
    config, rule = named_method(method, growth, chosen)
    if steps < 1:
        raise ConfigError(f"steps={steps} must be at least 1.")
    if config.dynamic and not config.prunes and update_interval >= steps:
        raise ConfigError(f"update_interval={update_interval} leaves no update within steps={steps}.")
    topology = SparseTopology.of(module, keep_dense=keep_dense, gates=gates)
    trained = {
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
    }
    if untrained := [weight.name for weight in topology if weight.parameter not in trained]:
        raise ConfigError(f"The optimizer does not train {', '.join(untrained)}: name what is frozen in keep_dense.")
    if {"scope", "redistribution"} & set(settings):  # a method's own scope simply has no effect without gates
        refuse_without_gates(config, topology)
    return StepSparsifier(config, rule, topology, optimizer, steps=steps, seed=seed)
