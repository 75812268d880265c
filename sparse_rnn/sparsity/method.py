"""A method as a configuration, and what follows from it: counts, schedule, needed signals, topology, checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from math import isclose
from typing import Any, Self

from omegaconf import II, MISSING, DictConfig, OmegaConf
from torch import nn

from sparse_rnn.core.bounds import LARGEST, check_whole, is_whole
from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.sparsity.groups import SCOPES, Group, groups_of
from sparse_rnn.sparsity.own_settings import check_settings, glob_of
from sparse_rnn.sparsity.rules import initial, link_growth, redistribution, schedule  # noqa: F401  (fill the registry)
from sparse_rnn.sparsity.rules.growth import SIGNALS, GradientGrowth, GrowthRule, Signal
from sparse_rnn.sparsity.rules.removal import RemovalRule, RemovalSettings
from sparse_rnn.sparsity.rules.schedule import RemovalSchedule, ScheduleSettings
from sparse_rnn.sparsity.selection import apportion
from sparse_rnn.sparsity.structure import Blocks, NOfM, Unstructured
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

STRUCTURE_KEYS = ("n", "m", "block", "ablation")  # what structures are made from; false where it is not set
BACKENDS = ("auto", "masked", "sparse")


@dataclass
class SparsifierConfig:
    """A composition: initial distribution x removal x growth x redistribution x scope x schedule x interval.

    conf/sparsifier holds the named ones; growth is a configuration of its own (see rules.growth).

    sparsity: the inactive share of the sparse weights. epsilon: of initial=er and er_gates, which gives it instead.
    initial, removal, redistribution, schedule: the rules, by the names of sparsity.rules: how many weights of each
    group are active at the start, which are removed, how many of those that grow each group gets, and how many move
    when.
    scope: tensor, cell or gate: what recurrent weights compete within, see `groups_of`.
    removal_rate, final_rate: the share of active weights that an update removes, at the start and end of training.
    update_interval: `epoch`, or a number of steps.
    update_until: the share of training after which the topology no longer changes, and at which schedule=linear and
    cosine reach final_rate.
    initial_sparsity: the sparsity of the first topology where the schedule changes it (None: dense for initial=dense,
    otherwise `sparsity`). prune_start, prune_end: the window in which the schedule changes the sparsity, as shares of
    training. alternations: of schedule=alternating, the dense phases in that window.
    gradient_weight: lambda of removal=magnitude_gradient. temperature: T of removal=magnitude_soft at the end.
    backward_sparsity: the sparsity of those weights which have gradients, for growth=reserve, see `Reserve`.
    noise, l1: what moves active weights after every step, see `Perturbation`.
    keep_dense: globs of the names of weights that stay dense.
    structure: the pattern of active entries, see sparsity.structure: unstructured, n_m, block or fan_in. n, m: of
    structure=n_m, n of every m neighbours in a row, which sets the sparsity. block: of structure=block, the rows and
    columns of a rectangle. ablation: of structure=fan_in, which has equally many in every row: rows with fewer salient
    weights than this share of them lose them all; 0: none does.
    dense_steps, dense_epochs: how long training is dense before the first topology is drawn, by magnitude.
    groups: other sparsities and removal rates, by globs of the names of weights; the last glob that matches decides.
    backend: auto, masked or sparse: what computes with the weights, see sparse_rnn.backends.choice; it is not part of a
    run's identity.
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
    structure: str = "unstructured"
    n: int = 0
    m: int = 0
    block: list[int] = field(default_factory=list)
    ablation: float = 0.0
    dense_steps: int = 0
    dense_epochs: int = 0
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    backend: str = "auto"

    def __post_init__(self) -> None:
        for key in ("initial", "removal", "redistribution", "schedule", "structure"):
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
        for key in ("dense_steps", "dense_epochs"):
            check_whole(f"sparsifier.{key}", getattr(self, key), 0)
        if self.dense_steps and self.dense_epochs:
            raise ConfigError("sparsifier.dense_steps and dense_epochs both say how long: leave one of them out.")
        _check_structure(self)
        check_settings(self.groups)
        for glob in self.groups:
            try:
                self.of_group(glob)
            except ConfigError as error:
                raise ConfigError(f"sparsifier.groups: {glob}: {error}") from error

    def of_group(self, glob: str | None) -> Self:
        """The method with the settings that a glob in `groups` gives; None: without any."""
        own: dict[str, Any] = dict(self.groups[glob]) if glob is not None else {}
        if "sparsity" in own:
            own["epsilon"] = None
        return replace(self, groups={}, **own)

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
    def warms_up(self) -> bool:
        """Whether training begins dense, before the first topology is drawn."""
        return bool(self.dense_steps or self.dense_epochs)

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


def make_structure(config: SparsifierConfig) -> Unstructured:
    """The structure that a configuration describes. Raises ConfigError."""
    kind = lookup("structure", config.structure)
    own = {f.name: getattr(config, f.name) for f in dataclass_fields(kind)}
    made: Unstructured = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in own.items()})
    return made


def _check_structure(config: SparsifierConfig) -> None:
    """Raise ConfigError if the structure and the other parts of a method contradict each other."""
    structure, called = make_structure(config), f"sparsifier.structure={config.structure}"
    own = {f.name for f in dataclass_fields(structure)}
    for key in STRUCTURE_KEYS:
        if key not in own and getattr(config, key):
            raise ConfigError(f"sparsifier.{key} means nothing for {called}: leave it out.")
    if structure.constant and config.redistribution != "none":
        raise ConfigError(
            f"sparsifier.redistribution={config.redistribution} moves weights between gates or layers, and {called} "
            "fixes how many each of them has: choose sparsifier.redistribution=none."
        )
    if isinstance(structure, Blocks) and config.removal == "sign_flip":
        raise ConfigError("sparsifier.removal=sign_flip looks at the sign of weights, which blocks do not have.")
    if config.ablation and config.prunes:
        raise ConfigError(f"sparsifier.ablation={config.ablation} is for a constant number of weights: leave it out.")
    if config.ablation and config.scope == "cell":
        raise ConfigError("sparsifier.ablation shares out the weights of one tensor: choose sparsifier.scope=tensor.")
    if config.ablation and not config.dynamic:
        raise ConfigError("sparsifier.ablation acts when the topology is updated, which this method never does.")
    if not isinstance(structure, NOfM) or isinstance(config.sparsity, str):
        return
    if not isclose(config.sparsity, structure.sparsity):
        raise ConfigError(
            f"{structure.n} of {structure.m} weights are a sparsity of {structure.sparsity:.4g}, not "
            f"{config.sparsity:.4g}: leave sparsifier.sparsity out, or choose other n and m."
        )
    if config.initial_sparsity is not None:
        raise ConfigError(f"{called} begins with all weights or n of every m: leave sparsifier.initial_sparsity out.")
    if config.initial != "uniform" and not (config.prunes and config.initial == "dense"):
        raise ConfigError(f"{called} makes all weights equally sparse: choose sparsifier.initial=uniform.")


def settle_structure(sparsifier: DictConfig) -> None:
    """Let N:M set the sparsity and its distribution, where these would be taken from the recipe."""
    if sparsifier.get("structure") != "n_m":
        return
    settled: dict[str, Any] = {"sparsity": NOfM(sparsifier.n, sparsifier.m).sparsity, "initial": "uniform"}
    for key, value in settled.items():
        if OmegaConf.is_interpolation(sparsifier, key):
            sparsifier[key] = value


def check_backend(key: str, backend: object) -> None:
    """Raise ConfigError unless it is the name of a backend."""
    if backend not in BACKENDS:
        raise ConfigError(f"{key}={backend} must be one of {', '.join(BACKENDS)}.")


@dataclass(frozen=True)
class Part:
    """Groups that may exchange positions with each other: their weights have the same settings.

    schedule: of these settings. unit: how many entries of a weight a position stands for.
    """

    groups: Sequence[Group]
    schedule: RemovalSchedule
    unit: int

    @property
    def sizes(self) -> list[int]:
        """The number of positions of each group."""
        return [group.size for group in self.groups]


def parts_of(config: SparsifierConfig, topology: SparseTopology, scope: str) -> list[Part]:
    """All groups of a topology, in the structure of a method. Raises ConfigError for a glob that fits no weight."""
    return [part for own, weights in divided(config, topology) for part in _parts(own, weights, scope)]


def divided(config: SparsifierConfig, topology: SparseTopology) -> list[tuple[SparsifierConfig, list[SparseWeight]]]:
    """The weights that have the same settings, and the method with these: first those that no glob in `groups` matches.

    Raises ConfigError for a glob that fits no weight.
    """
    deciding = glob_of((weight.name for weight in topology), config.groups)
    found = [(glob, [w for w in topology if deciding[w.name] == glob]) for glob in (None, *config.groups)]
    return [(config.of_group(glob), weights) for glob, weights in found if weights]


def _parts(config: SparsifierConfig, weights: Sequence[SparseWeight], scope: str) -> list[Part]:
    structure = make_structure(config)
    by_unit: dict[int, list[Group]] = {}
    for group in groups_of(weights, scope):
        for own in structure.groups(group):
            by_unit.setdefault(own.unit, []).append(own)
    return [Part(tuple(groups), make_schedule(config), unit) for unit, groups in by_unit.items()]


def initial_counts(config: SparsifierConfig, topology: SparseTopology) -> list[tuple[Group, int]]:
    """Each group and its number of active positions at the start; works on the meta device. Raises ConfigError."""
    scope = "gate" if config.scope == "gate" else "tensor"
    distribution, structure = lookup("initial", config.initial)(), make_structure(config)
    counts: list[tuple[Group, int]] = []
    for own, weights in divided(config, topology):
        sparsity = own.start_sparsity
        if own.epsilon is not None:
            sparsity = distribution.sparsity(groups_of(weights, scope), own.epsilon)
        for part in _parts(own, weights, scope):
            allowed = structure.counts(part.groups, distribution(part.groups, sparsity))
            counts += zip(part.groups, allowed, strict=True)
    return counts


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
    counts: list[tuple[Group, int]] = []
    for part in parts_of(config, topology, config.scope):
        counts += zip(part.groups, make_structure(config).kept(part.groups, part.schedule, 1.0), strict=True)
    return _by_weight(counts)


def _by_weight(counts: Sequence[tuple[Group, int]]) -> dict[str, int]:
    """What the groups have, by weight name; the blocks of a group count as equally dense."""
    active: dict[str, int] = {}
    for group, count in counts:
        sizes = [block.size for block in group.blocks]
        for block, share in zip(group.blocks, apportion(count, sizes, sizes), strict=True):
            name = block.weight.name
            active[name] = active.get(name, 0) + share * block.unit
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


def reads_in_every_step(config: SparsifierConfig, growth: GrowthRule) -> bool:
    """Whether the dense gradient of every step is read for an update, because updates are that close to each other."""
    steps = growth.minibatches if isinstance(growth, GradientGrowth) else 1
    close = config.update_interval != "epoch" and int(config.update_interval) <= steps
    return close and bool(signals_needed(config, growth))


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
    refuse_counts(method, topology)
    return topology


def refuse_counts(method: SparsifierConfig, topology: SparseTopology) -> None:
    """Raise ConfigError if a glob fits no weight, or a weight is too small for the structure at its sparsity.

    Works on the meta device.
    """
    if method.structure == "unstructured":
        divided(method, topology)
    elif empty := [name for name, active in final_counts(method, topology).items() if not active]:
        raise ConfigError(
            f"sparsifier.structure={method.structure} would leave {empty[0]} no active weight: lower "
            "sparsifier.sparsity, choose smaller blocks, or name it in sparsifier.keep_dense."
        )
