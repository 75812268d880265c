"""`sparsify`: sparsity for any module and optimizer, in three lines of a training loop."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sparse_rnn.core.declarations import GateMap
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.extras import KERNELS, missing_extra
from sparse_rnn.sparsity import arguments
from sparse_rnn.sparsity.divergence import odd_value
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.method import SparsifierConfig, check_backend, refuse_counts, refuse_without_gates
from sparse_rnn.sparsity.named_methods import composed_method
from sparse_rnn.sparsity.rules.growth import GrowthRule
from sparse_rnn.sparsity.step_sparsifier import StepSparsifier
from sparse_rnn.sparsity.suitable import refuse_unready, refuse_unsuitable
from sparse_rnn.sparsity.topology import SparseTopology

INTERVAL, REMOVAL_RATE = 100, 0.5

# None of the parameters themselves: torch exchanges no tensor that has a weak reference.
_sparsifiers: weakref.WeakSet[StepSparsifier] = weakref.WeakSet()


def sparsify(
    module: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float | None = None,
    steps: int,
    method: str | SparsifierConfig = "selfish",
    growth: str | GrowthRule | None = None,
    removal_rate: float | None = None,
    update_interval: int | None = None,
    keep_dense: Sequence[str] = (),
    gates: GateMap | None = None,
    backend: str | None = None,
    seed: int = 1,
    **settings: Any,
) -> StepSparsifier:
    """Make a module sparse now, and keep it sparse while `optimizer` trains it for `steps` steps.

    sparsity: the inactive share of the sparse weights, in [0, 1); a method that is a configuration may have its own.
    method: a name in conf/sparsifier, or a SparsifierConfig. growth: a name in conf/growth or a rule, in place of the
    method's own. removal_rate: at the first update, 0.5 by default; it falls over `steps`. update_interval: in steps,
    100 by default. keep_dense: globs of the names of weights that stay dense. gates: the rows of each gate, by
    parameter name, where the modules do not declare them (see `find_gates`); a weight without gates is one group.
    backend: `masked`, `sparse` for the kernels, which compute with active entries alone, or `auto`, the default: the
    kernels where they are faster and possible.
    settings: other keys of the method, such as `scope="cell"`.

    Neither Hydra's nor OmegaConf's global state is touched. Raises ConfigError, in one sentence, for what does not
    exist or fit, and for a module that cannot be kept sparse; the module is then as it was.
    """
    module = arguments.plain_module(module)
    arguments.check_optimizer(optimizer)
    steps, seed = arguments.whole_number("steps", steps), arguments.seed_number(seed)
    chosen = _settings(method, sparsity, removal_rate, update_interval, settings)
    if backend is not None:
        check_backend("backend", backend)
        chosen["backend"] = backend
    arguments.check_growth(growth)
    config, rule = composed_method(method, growth, chosen)
    if config.dense_epochs:
        raise ConfigError("dense_epochs cannot be used here: sparsify counts steps, so give dense_steps.")
    if config.dense_steps >= steps:
        raise ConfigError(f"dense_steps={config.dense_steps} leaves none of steps={steps} to the sparse network.")
    if config.dynamic and not config.prunes and int(config.update_interval) >= steps:
        raise ConfigError(f"update_interval={config.update_interval} leaves no update within steps={steps}.")
    topology = _topology(module, [*config.keep_dense, *arguments.names("keep_dense", keep_dense)], gates)
    _refuse_untrained(topology, optimizer)
    refuse_counts(config, topology)
    if not isinstance(method, str) or {"scope", "redistribution"} & set(settings):
        refuse_without_gates(config, topology)  # the scope of a method by name simply has no effect without gates
    apply = _chosen_backend(config, rule, module, topology, optimizer)
    made = StepSparsifier(config, rule, topology, optimizer, steps=steps, seed=seed, module=module)
    apply(made)
    _sparsifiers.add(made)
    return made


def _chosen_backend(
    config: SparsifierConfig, rule: GrowthRule, module: nn.Module, topology: SparseTopology, optimizer: Optimizer
) -> Callable[[StepSparsifier], None]:
    """What to do with a sparsifier so that what was chosen computes; raises ConfigError."""
    if config.backend == "masked":
        return _masked("as requested")
    try:
        from sparse_rnn.backends.own_choice import choose_for_own  # needs packages that only an extra brings
    except ModuleNotFoundError as error:
        lacking = missing_extra(error, "the kernels", KERNELS)
        if lacking is None:
            raise
        if config.backend == "sparse":
            raise ConfigError(lacking) from None
        return _masked(lacking.rstrip("."))
    choice = choose_for_own(config, rule, module, topology, optimizer)
    return partial(choice.apply, module=module)


def _masked(reason: str) -> Callable[[StepSparsifier], None]:
    def apply(sparsifier: StepSparsifier) -> None:
        sparsifier.backend_reason = reason

    return apply


def _settings(
    method: str | SparsifierConfig,
    sparsity: float | None,
    removal_rate: float | None,
    update_interval: int | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What the call sets of the method, checked; raises ConfigError."""
    arguments.check_method(method)
    if isinstance(method, ISSConfig):
        raise ConfigError("method=iss is not a composition of rules: sparsify does not offer it.")
    if settings.get("epsilon") is not None and (sparsity is not None or isinstance(method, str)):
        raise ConfigError("epsilon would set the sparsity a second time: leave epsilon out.")
    chosen = dict(settings)
    own = None if isinstance(method, str) else method
    if sparsity is not None:
        chosen["sparsity"] = arguments.number("sparsity", sparsity)
    elif settings.get("structure") != "n_m" and (own is None or isinstance(own.sparsity, str)):
        raise ConfigError("sparsity is missing: give the inactive share of the weights, as in sparsity=0.8.")
    if removal_rate is not None or own is None or isinstance(own.removal_rate, str):
        rate = REMOVAL_RATE if removal_rate is None else removal_rate
        chosen["removal_rate"] = arguments.number("removal_rate", rate)
    if update_interval is not None or own is None or own.update_interval == "epoch":
        steps = INTERVAL if update_interval is None else update_interval
        chosen["update_interval"] = str(arguments.interval(steps))
    return chosen


def _topology(module: nn.Module, keep_dense: Iterable[str], gates: GateMap | None) -> SparseTopology:
    """The weights that are to be sparse; raises ConfigError if there are none, or if one cannot be."""
    arguments.check_gates(gates)
    refuse_unready(module)
    if not any(parameter.dim() >= 2 and parameter.numel() for parameter in module.parameters()):
        raise ConfigError(f"{type(module).__name__} has no weight of two or more dimensions to make sparse.")
    topology = SparseTopology.of(module, keep_dense=list(keep_dense), gates=gates)
    if not len(topology):
        raise ConfigError("keep_dense leaves no weight to make sparse: leave sparsify out.")
    refuse_unsuitable(module, topology)
    taken = {id(weight.parameter) for other in _sparsifiers for weight in other.topology}
    for weight in topology:
        if id(weight.parameter) in taken:
            raise ConfigError(f"{weight.name} is kept sparse by another sparsifier already: call sparsify once.")
        if kind := odd_value(weight.parameter):
            raise ConfigError(f"{weight.name} holds {kind}: sparsify needs finite weights.")
    return topology


def _refuse_untrained(topology: SparseTopology, optimizer: Optimizer) -> None:
    """Raise ConfigError for sparse weights that the optimizer does not move: what grows there would stay zero."""
    trained = {
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
    }
    if untrained := [weight.name for weight in topology if weight.parameter not in trained]:
        raise ConfigError(f"The optimizer does not train {', '.join(untrained)}: name what is frozen in keep_dense.")
