"""The configuration of a run: its schema, its checks, its identity."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import II, MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    InterpolationValidationError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from sparse_rnn import models  # noqa: F401  (fill the registry)
from sparse_rnn.command_line import GROUPS, SHORTHANDS, compose_file, config_dir
from sparse_rnn.data import classification  # noqa: F401  (fill the registry)
from sparse_rnn.data.datasets import DatasetConfig
from sparse_rnn.identity import NOT_IDENTITY, NOT_OF_GROUP
from sparse_rnn.models.language_model import ModelConfig
from sparse_rnn.optim.build import OptimizerConfig
from sparse_rnn.protocol import ProtocolConfig
from sparse_rnn.registry import ConfigError, choices, lookup, near
from sparse_rnn.sparsity import iss  # noqa: F401  (fill the registry)
from sparse_rnn.sparsity.growth import GrowthRule
from sparse_rnn.sparsity.sparsifier import SparsifierConfig

CONFIG_DIR = config_dir()
OFFICIAL_CODE_MODELS = ("stacked_lstm", "rhn")
OPTIONAL_GROUPS = ("size", "tuning", "pairing")


@dataclass
class RecipeConfig:
    """The papers' settings for a model and an optimizer. `assumed`: what the papers do not give.

    er: the distribution of methods that start from Erdos-Renyi. model, optimizer: the only ones that the settings are
    for, if the recipe's name does not say so.
    """

    name: str = MISSING
    sparsity: float | None = None
    removal_rate: float | None = None
    er: str = "er"
    model: str | None = None
    optimizer: str | None = None
    assumed: str = ""


@dataclass
class TrainingConfig:
    """Length and shape of training. clip: largest gradient norm, None: any. bptt: window length, in tokens.

    max_bptt: longest window with variable_bptt, None: any. sub_batch: sequences that are trained at a time, with
    dropout masks of their own, before an optimizer step on the whole batch; None: all of it. valid_batch, test_batch:
    sequences side by side in evaluation.
    """

    epochs: int = MISSING
    batch: int = 20
    bptt: int = 35
    variable_bptt: bool = False
    max_bptt: int | None = None
    sub_batch: int | None = None
    clip: float | None = 0.25
    valid_batch: int = 10
    test_batch: int = 1

    def __post_init__(self) -> None:
        for key in ("epochs", "batch", "bptt", "valid_batch", "test_batch", "max_bptt", "sub_batch"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"training.{key}={value} must be at least 1.")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"training.clip={self.clip} must be greater than 0, or null for none.")


@dataclass
class BudgetConfig:
    """How much of the paper's size and length a run has; None: all tokens of a split.

    average_by: share of the epochs after which averaging starts in any case.
    """

    name: str = MISSING
    average_by: float = 1.0
    train_tokens: int | None = None
    eval_tokens: int | None = None


@dataclass
class CheckpointConfig:
    """every_minutes: between checkpoints inside an epoch. keep: what a finished run leaves: best, last or none."""

    every_minutes: float = 10.0
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last", "none"):
            raise ConfigError(f"checkpoint.keep={self.keep} must be one of best, last, none.")
        if not self.every_minutes > 0:
            raise ConfigError(f"checkpoint.every_minutes={self.every_minutes} must be greater than 0.")


@dataclass
class SnapshotsConfig:
    """Whether masks and hidden states on the first `tokens` test tokens are stored after every epoch."""

    enabled: bool = False
    tokens: int = 2000

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ConfigError(f"snapshots.tokens={self.tokens} must be at least 2.")


@dataclass
class LoggerConfig:
    """wandb: whether a W&B run is written, in `mode` offline or online; every: steps between rows of training loss."""

    name: str = MISSING
    wandb: bool = True
    mode: str = "offline"
    project: str = "sparse_rnn"
    entity: str | None = None
    every: int = 200

    def __post_init__(self) -> None:
        if self.mode not in ("offline", "online"):
            raise ConfigError(f"logger.mode={self.mode} must be one of offline, online.")
        if self.every < 1:
            raise ConfigError(f"logger.every={self.every} must be at least 1.")


@dataclass
class RunConfig:
    """All that a run is. `init_seed` draws weights and first topology, `seed` everything else."""

    model: Any = MISSING
    dataset: Any = MISSING
    optimizer: Any = MISSING
    growth: Any = MISSING
    sparsifier: SparsifierConfig = MISSING
    recipe: RecipeConfig = MISSING
    training: TrainingConfig = MISSING
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    budget: BudgetConfig = MISSING
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    snapshots: SnapshotsConfig = field(default_factory=SnapshotsConfig)
    logger: LoggerConfig = MISSING
    seed: int = 1
    init_seed: int = II("seed")
    device: str = "auto"
    threads: int | None = None


@dataclass
class Run:
    """A checked configuration: the typed view of RunConfig."""

    model: ModelConfig
    dataset: DatasetConfig
    optimizer: OptimizerConfig
    growth: GrowthRule
    sparsifier: SparsifierConfig
    recipe: RecipeConfig
    training: TrainingConfig
    protocol: ProtocolConfig
    budget: BudgetConfig
    checkpoint: CheckpointConfig
    snapshots: SnapshotsConfig
    logger: LoggerConfig
    seed: int
    init_seed: int
    device: str
    threads: int | None


def register_schemas() -> None:
    """Put the schema of every component into Hydra's ConfigStore, as `<group>/schema_<name>`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig)
    for group in ("model", "dataset", "optimizer", "growth", "sparsifier"):
        for name in choices(group):
            store.store(group=group, name=f"schema_{name}", node=lookup(group, name))


def expand_shorthands(overrides: Sequence[str]) -> list[str]:
    """Overrides with short keys written out: `snapshots=true` is `snapshots.enabled=true`.

    Raises ConfigError for an option of an optional group that does not exist, which Hydra would pass over.
    """
    expanded = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key in OPTIONAL_GROUPS:
            _require_option(key, value)
        expanded.append(SHORTHANDS.get(key, key) + equals + value)
    return expanded


def _require_option(group: str, names: str) -> None:
    known = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    for name in names.split(","):
        if name not in known:
            raise ConfigError(f"{group}={name} does not exist{near(name, known)}.")


def compose_run(overrides: Sequence[str]) -> Run:
    """Compose and check a configuration as the command line does; raises ConfigError."""
    register_schemas()
    try:
        return check(compose_file("config", expand_shorthands(overrides)))
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error)) from error


def check(composed: DictConfig) -> Run:
    """The typed configuration; raises ConfigError for unknown keys, values out of range and what makes no sense."""
    try:
        _refuse_unknown_keys(composed)
        run = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(run, RunConfig)
    checked = Run(**{f.name: getattr(run, f.name) for f in fields(RunConfig)})
    _refuse_nonsense(checked)
    return checked


def _refuse_unknown_keys(node: DictConfig, prefix: str = "") -> None:
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        raise ConfigError(f"{prefix.rstrip('.')} has no schema; choose it by name, as in `model=rhn`.")
    known = {f.name for f in fields(schema)}
    for key in map(str, node):
        if key not in known:
            raise ConfigError(f"{prefix}{key} is not a key of the configuration{near(key, known)}.")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
            _refuse_unknown_keys(child, f"{prefix}{key}.")


def _refuse_nonsense(run: Run) -> None:
    method, growth = run.sparsifier, run.growth.name
    for group, only in (("model", run.recipe.model), ("optimizer", run.recipe.optimizer)):
        if only not in (None, name := getattr(run, group).name):
            raise ConfigError(f"recipe={run.recipe.name} is for {group}={only}: choose another for {group}={name}.")
    if run.model.task != run.dataset.task:
        fitting = [name for name in choices("model") if lookup("model", name).task == run.dataset.task]
        raise ConfigError(
            f"model={run.model.name} is for {run.model.task} and dataset={run.dataset.name} for {run.dataset.task}: "
            f"choose model={' or '.join(fitting)}, or another data set."
        )
    grows = method.dynamic and not method.prunes
    if growth != "none" and not grows:
        raise ConfigError(f"sparsifier={method.name} never grows weights: leave growth={growth} out.")
    if growth == "none" and grows:
        raise ConfigError(f"sparsifier={method.name} removes weights and must grow as many: choose a growth.")
    if grows and method.initial == "dense":
        raise ConfigError(f"sparsifier={method.name} grows weights and cannot start from initial=dense.")
    if not method.masked and method.sparsity:
        raise ConfigError(f"sparsifier={method.name} has no sparsity: leave sparsifier.sparsity out.")
    if method.epsilon is not None and run.recipe.sparsity not in (None, method.sparsity):
        raise ConfigError("sparsifier.epsilon and sparsifier.sparsity both say how sparse: leave one of them out.")
    if run.model.task == "text_classification":
        for key, neutral in (("sub_batch", None), ("variable_bptt", False), ("max_bptt", None)):
            if getattr(run.training, key) != neutral:
                raise ConfigError(f"training.{key} means nothing for {run.model.task}: leave it out.")
    if method.scope == "gate" and method.redistribution.startswith("gate_"):
        raise ConfigError(
            f"sparsifier.redistribution={method.redistribution} shares among the gates of a group, and with "
            "sparsifier.scope=gate each group is one gate."
        )
    if run.protocol.name == "official_code" and run.model.name not in OFFICIAL_CODE_MODELS:
        raise ConfigError(f"protocol=official_code has no working code for model={run.model.name}; use protocol=paper.")
    if run.threads is not None and run.threads < 1:
        raise ConfigError(f"threads={run.threads} must be at least 1.")
    if run.seed < 0 or run.init_seed < 0:
        raise ConfigError("seed and init_seed must not be negative.")
    if run.device.split(":")[0] not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={run.device} must be auto, cpu or cuda.")


def explain(error: BaseException) -> str:
    """One sentence for what Hydra and OmegaConf say about a configuration."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = [option for option in error.options or [] if not option.startswith("schema")]
        without = "; recipe=none goes without, by settings of your own" if group == "recipe" else ""
        return f"{group}={name} does not exist{near(name, known)}{without}."
    if isinstance(error, InterpolationToMissingValueError | InterpolationValidationError):
        return f"{error.full_key} is not set: give it a value, or choose a recipe that does."
    if isinstance(error, MissingMandatoryValue) or isinstance(cause, MissingMandatoryValue):
        return f"{_missing_key(error)} is not set: give it a value, or choose a recipe that does."
    if "interpolation key" in str(error) and "${budget}_${model}" in str(error):
        return f"{', '.join(GROUPS)} are config groups: each needs one name, as in model=rhn."
    if "raised while composing config" in str(error):
        where, what, *_ = str(error).splitlines()
        option = where.split("'")[1].replace("/", "=")
        return f"{option} does not go with the other choices: {_with_choice(what.rstrip('.').replace('Key', 'key'))}."
    if "Ambiguous value for argument" in str(error):
        return f"{_first_line(error)} (several values need -m)."
    if isinstance(error, OverrideParseException):
        return f"The override {str(error.override)!r} cannot be read: write key=value, quoted if the value is unusual."
    if isinstance(error, ValidationError) or isinstance(cause, ValidationError):
        found = cause if isinstance(cause, ValidationError) else error
        return f"{getattr(found, 'full_key', '')}: {_first_line(found)}."
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        known = list(cause.parent_node) if isinstance(cause.parent_node, DictConfig) else []
        return f"{cause.full_key or cause.key} is not a key of the configuration{near(str(cause.key), known)}."
    return f"{_first_line(cause if isinstance(cause, OmegaConfBaseException) else error)}."


def _with_choice(complaint: str) -> str:
    """The same, with the choice of the command line in place of its class: `not in 'PTB'` is `not in dataset=ptb`."""
    for group in ("model", "dataset", "optimizer"):
        for name in choices(group):
            complaint = complaint.replace(f"'{lookup(group, name).__name__}'", f"{group}={name}")
    return complaint


def _missing_key(error: BaseException) -> str:
    key = str(getattr(error, "full_key", "") or "")
    name = str(error).splitlines()[0].rpartition(": ")[2]
    return key if key.endswith(name) else f"{key}.{name}".strip(".")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def as_dict(config: Any) -> Any:
    """A configuration as plain dictionaries, lists and values."""
    if is_dataclass(config):
        return {f.name: as_dict(getattr(config, f.name)) for f in fields(config)}
    return list(config) if isinstance(config, list | tuple) else config


def run_id(run: Run) -> str:
    """<model>-<dataset>-<sparsifier>-s<seed>-<hash8>; values equal to their schema's default do not count, so a new
    option with a neutral default keeps old runs valid."""
    chosen = {path: value for path, value in _chosen(run) if path.split(".")[0] not in NOT_IDENTITY}
    for group, keys in NOT_OF_GROUP.items():
        for key in keys:
            chosen.pop(f"{group}.{key}", None)
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
    return f"{run.model.name}-{run.dataset.name}-{run.sparsifier.name}-s{run.seed}-{digest}"


def _chosen(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from _chosen(value, f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not NO_DEFAULT else f.default
        if f.name == "name" or value != default:
            yield f"{prefix}{f.name}", as_dict(value)


def run_from_dict(config: Mapping[str, Any]) -> Run:
    """The configuration that `as_dict` was made from; raises ConfigError if it is of another version."""
    components = {group: lookup(group, config[group]["name"]) for group in ("model", "dataset", "optimizer", "growth")}
    if config["sparsifier"]["name"] in choices("sparsifier"):
        components["sparsifier"] = lookup("sparsifier", config["sparsifier"]["name"])
    schemas = {f.name: f.type for f in fields(Run) if is_dataclass(f.type)} | components
    try:
        values = {f.name: config.get(f.name, {}) if f.name in schemas else config[f.name] for f in fields(Run)}
        return Run(**{key: schemas[key](**value) if key in schemas else value for key, value in values.items()})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"The recorded configuration is of another version of sparse_rnn: {error}.") from None
