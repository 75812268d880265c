"""A method as a configuration, and what follows from it: counts, schedule, needed signals, topology, checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from omegaconf import II, MISSING
from torch import nn

from sparse_rnn.core.bounds import LARGEST, check_whole, is_whole
from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.sparsity.groups import SCOPES, Group, groups_of
from sparse_rnn.sparsity.rules import initial, link_growth, redistribution, schedule  # noqa: F401  (fill the registry)
from sparse_rnn.sparsity.rules.growth import SIGNALS, GrowthRule, Signal
from sparse_rnn.sparsity.rules.removal import RemovalRule, RemovalSettings
from sparse_rnn.sparsity.rules.schedule import RemovalSchedule, ScheduleSettings
from sparse_rnn.sparsity.selection import apportion
from sparse_rnn.sparsity.topology import SparseTopology

BACKENDS = ("auto", "masked", "sparse")


@dataclass
class SparsifierConfig:
    """A composition: initial distribution x removal x growth x redistribution x scope x schedule x interval.

    conf/sparsifier holds the named ones; growth is a configuration of its own (see rules.growth).

    sparsity: the inactive share of the sparse weights. epsilon: gives it instead, for initial=er and er_gates.
    scope: what recurrent weights compete within, see `groups_of`.
    removal_rate, final_rate: the share of active weights that an update removes, at the start and end of training.
    update_interval: `epoch`, or a number of steps.
    update_until: the share of training after which the topology no longer changes, and at which schedule=linear and
    cosine reach final_rate.
    initial_sparsity: that of the first topology where the schedule changes it (None: dense for initial=dense, otherwise
    `sparsity`). prune_start, prune_end: the window in which it does, as shares of training. alternations: the dense
    phases in that window, for schedule=alternating.
    gradient_weight: lambda of removal=magnitude_gradient. temperature: T of removal=magnitude_soft at the end.
    backward_sparsity: that of the weights which have gradients, for growth=reserve, see `Reserve`.
    noise, l1: what moves active weights after every step, see `Perturbation`.
    keep_dense: globs of the names of weights that stay dense.
    backend: what computes with the weights, see sparse_rnn.backends.choice; it is not part of a run's identity.
    """

    name: str = MISSING
    sparsity: float = II("recipe.sparsity")
    epsilon: float | None = None
    initial: str = "uniform"
    removal: str = "none"
    redistribution: str = "none"
    scope: str = "tensor"
    schedule: str = "cosine"
    removal_rate: float = II("recipe.removal_rate")
    final_rate: float = II("protocol.final_rate")
    update_interval: str = "epoch"
    update_until: float = 1.0
    prune_start: float = 0.0
    prune_end: float = 1.0
    initial_sparsity: float | None = None
    alternations: int = 7
    gradient_weight: float = 0.01
    temperature: float = 9.0
    backward_sparsity: float = 0.5
    noise: float = 0.0
    l1: float = 0.0
    keep_dense: list[str] = field(default_factory=list)
    backend: str = "auto"

    def __post_init__(self) -> None:
        for key in ("initial", "removal", "redistribution", "schedule"):
            known = (*choices(key), "none") if key == "removal" else choices(key)
            if getattr(self, key) not in known:
                value = getattr(self, key)
                raise ConfigError(f"sparsifier.{key}={value} does not exist{suggest(value, known)}.")
        if self.scope not in SCOPES:
            raise ConfigError(f"sparsifier.scope={self.scope} must be one of {', '.join(SCOPES)}.")
        check_backend("sparsifier.backend", self.backend)
        for key in ("sparsity", "removal_rate", "final_rate", "backward_sparsity"):
            value = getattr(self, key)
            if not isinstance(value, str) and not 0 <= value < 1:  # text: a reference that is not resolved yet
                raise ConfigError(f"sparsifier.{key}={value} must lie in [0, 1).")
        for key in ("gradient_weight", "noise", "l1"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"sparsifier.{key}={getattr(self, key)} must not be negative.")
        if not self.temperature >= 1:
            raise ConfigError(f"sparsifier.temperature={self.temperature} must be at least 1.")
        check_whole("sparsifier.alternations", self.alternations, 1)
        if not 0 <= self.prune_start < self.prune_end <= 1:
            raise ConfigError("sparsifier.prune_start and prune_end must satisfy 0 <= prune_start < prune_end <= 1.")
        if self.epsilon is not None and not (self.epsilon > 0 and self.initial in ("er", "er_gates")):
            raise ConfigError(
                f"sparsifier.epsilon={self.epsilon} must be greater than 0 and needs sparsifier.initial=er or er_gates."
            )
        if not 0 < self.update_until <= 1:
            raise ConfigError(f"sparsifier.update_until={self.update_until} must lie in (0, 1].")
        if self.prunes and self.update_until < self.prune_end:
            raise ConfigError(
                f"sparsifier.update_until={self.update_until} lies before sparsifier.prune_end={self.prune_end}: the "
                "requested sparsity would never be reached."
            )
        steps = is_whole(self.update_interval) and 0 < int(self.update_interval) <= LARGEST
        if self.update_interval != "epoch" and not steps:
            raise ConfigError(f"sparsifier.update_interval={self.update_interval} must be epoch or a number of steps.")

    @property
    def dynamic(self) -> bool:
        """Whether the topology changes during training."""
        return self.removal != "none"

    @property
    def scheduled(self) -> bool:
        """Whether the schedule sets the number of active weights during training."""
        return self.removal != "none" and bool(lookup("schedule", self.schedule).prunes)

    @property
    def prunes(self) -> bool:
        """Whether the number of active weights changes during training."""
        return self.scheduled

    @property
    def regrows(self) -> bool:
        """Whether updates grow weights."""
        return self.removal != "none" and bool(lookup("schedule", self.schedule).regrows)

    @property
    def start_sparsity(self) -> float:
        """The sparsity of the first topology."""
        if self.initial == "dense":
            return 0.0
        return self.sparsity if self.initial_sparsity is None else self.initial_sparsity

    @property
    def masked(self) -> bool:
        """Whether there is a topology at all: false for a network that starts dense and stays so."""
        return self.dynamic or self.initial != "dense"

    def dense_weights(self, model: nn.Module) -> Sequence[str]:
        """Names or globs of the weights that stay dense; raises ConfigError for a model that does not fit."""
        return self.keep_dense

    def structures(self, model: nn.Module) -> Sequence[Structures]:
        """The whole units that the method removes; a method that is a composition of rules removes none."""
        return ()


def check_backend(key: str, backend: object) -> None:
    """Raise ConfigError unless it is the name of a backend."""
    if backend not in BACKENDS:
        raise ConfigError(f"{key}={backend} must be one of {', '.join(BACKENDS)}.")


def initial_counts(config: SparsifierConfig, topology: SparseTopology) -> list[tuple[Group, int]]:
    """Each group and its number of active entries at the start; works on the meta device."""
    groups = groups_of(topology, "gate" if config.scope == "gate" else "tensor")
    distribution = lookup("initial", config.initial)()
    sparsity = config.start_sparsity if config.epsilon is None else distribution.sparsity(groups, config.epsilon)
    return list(zip(groups, distribution(groups, sparsity), strict=True))


def start_counts(config: SparsifierConfig, topology: SparseTopology) -> dict[str, int]:
    """The number of active entries of each weight when training begins; works on the meta device."""
    return _by_weight(initial_counts(config, topology))


def final_counts(config: SparsifierConfig, topology: SparseTopology) -> dict[str, int]:
    """The number of active entries of each weight when training begins or, for methods that prune, when it ends.

    Where weights compete with each other, only pruning itself decides how many entries each keeps: they are counted as
    equally dense. For ISS, whose sparsity is an outcome, all entries count. Works on the meta device.
    """
    if not config.scheduled:
        return start_counts(config, topology)
    groups = groups_of(topology, config.scope)
    sizes = [group.size for group in groups]
    removed = make_schedule(config).excess(sizes, sizes, 1.0)
    return _by_weight([(group, size - gone) for group, size, gone in zip(groups, sizes, removed, strict=True)])


def _by_weight(counts: Sequence[tuple[Group, int]]) -> dict[str, int]:
    """What the groups have, by weight name; the blocks of a group count as equally dense."""
    active: dict[str, int] = {}
    for group, count in counts:
        sizes = [block.size for block in group.blocks]
        for block, part in zip(group.blocks, apportion(count, sizes, sizes), strict=True):
            active[block.weight.name] = active.get(block.weight.name, 0) + part
    return active


def signals_needed(config: SparsifierConfig, growth: GrowthRule) -> frozenset[Signal]:
    """The signals that the method's removal, growth and redistribution read; none if the topology is fixed.

    Raises ConfigError for a signal that does not exist.
    """
    for signal in sorted(growth.needs - set(SIGNALS)):
        raise ConfigError(f"growth={growth.name} reads {signal}, which is no signal{suggest(signal, SIGNALS)}.")
    if not config.dynamic:
        return frozenset()
    parts = [("removal", config.removal), ("redistribution", config.redistribution)]
    return growth.needs.union(*(lookup(part, name).needs for part, name in parts if name != "none"))


def make_schedule(config: SparsifierConfig) -> RemovalSchedule:
    """The removal schedule that a configuration describes."""
    settings = ScheduleSettings(
        initial=config.removal_rate,
        final=config.final_rate,
        sparsity=config.sparsity,
        start=config.prune_start,
        end=config.prune_end,
        until=config.update_until,
        start_sparsity=config.start_sparsity,
        alternations=config.alternations,
    )
    made: RemovalSchedule = lookup("schedule", config.schedule)(settings)
    return made


def make_removal(config: SparsifierConfig) -> RemovalRule | None:
    """The removal rule that a configuration describes; None if nothing is removed."""
    if config.removal == "none":
        return None
    settings = RemovalSettings(gradient_weight=config.gradient_weight, temperature=config.temperature)
    made: RemovalRule = lookup("removal", config.removal)(settings)
    return made


def refuse_without_gates(config: SparsifierConfig, topology: SparseTopology) -> None:
    """Raise ConfigError if the method works on single gates and no weight has more than one."""
    if any(len(weight.gates) > 1 for weight in topology):
        return
    needing: Sequence[str] = [config.scope] if config.scope == "gate" else []
    if config.redistribution.startswith("gate_"):
        needing = [config.redistribution]
    if needing:
        raise ConfigError(f"{needing[0]} needs gates, and the model has none: declare them with a gates() method.")


def make_topology(method: SparsifierConfig, model: nn.Module) -> SparseTopology:
    """The topology of a method on a model, with all entries still active; empty if the method has no topology.

    Raises ConfigError if the method does not fit the model.
    """
    if not method.masked:
        return SparseTopology([])
    topology = SparseTopology.of(model, keep_dense=method.dense_weights(model), structures=method.structures(model))
    if not len(topology):
        raise ConfigError("sparsifier.keep_dense leaves no weight to make sparse; use sparsifier=dense instead.")
    refuse_without_gates(method, topology)
    return topology


def check_composition(method: SparsifierConfig, growth: str) -> None:
    """Raise ConfigError if the parts of a method contradict each other."""
    grows = method.regrows
    if growth != "none" and not grows:
        raise ConfigError(f"sparsifier={method.name} never grows weights: leave growth={growth} out.")
    if growth == "none" and grows:
        raise ConfigError(f"sparsifier={method.name} removes weights and must grow as many: choose a growth.")
    if grows and method.initial == "dense" and not method.prunes:
        raise ConfigError(f"sparsifier={method.name} grows weights and cannot start from initial=dense.")
    if (growth == "reserve") != (method.removal == "reserve"):
        raise ConfigError(f"sparsifier.removal={method.removal} and growth={growth}: reserve goes with reserve only.")
    _check_schedule(method)
    if not method.masked and method.sparsity:
        raise ConfigError(f"sparsifier={method.name} has no sparsity: leave sparsifier.sparsity out.")
    if method.scope == "gate" and method.redistribution.startswith("gate_"):
        raise ConfigError(
            f"sparsifier.redistribution={method.redistribution} distributes among the gates of a group, but "
            "with sparsifier.scope=gate each group is a single gate: choose another scope."
        )


def _check_schedule(method: SparsifierConfig) -> None:
    """Raise ConfigError if the schedule does not go with the rule for removal, or with the first topology."""
    if method.scheduled and not lookup("removal", method.removal).exact:
        raise ConfigError(
            f"sparsifier.removal={method.removal} decides itself how many weights go, and sparsifier.schedule="
            f"{method.schedule} wants an exact number: choose another of them."
        )
    first = method.initial_sparsity
    if first is None:
        return
    if not method.scheduled or method.initial == "dense" or method.epsilon is not None:
        raise ConfigError(
            f"sparsifier.initial_sparsity={first} is for a sparse start that the schedule then changes: leave it out."
        )
    if not 0 <= first <= method.sparsity:
        raise ConfigError(f"sparsifier.initial_sparsity={first} must lie between 0 and sparsifier.sparsity.")
