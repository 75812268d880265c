"""The schema of a run's configuration, made of the components' own dataclasses."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import II, MISSING

from sparse_rnn import models  # noqa: F401  (fill the registry)
from sparse_rnn.core.bounds import LARGEST, check_whole
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.data.base import DatasetConfig
from sparse_rnn.data.labelled import own, published  # noqa: F401  (fill the registry)
from sparse_rnn.data.language import characters, corpora, wikitext103  # noqa: F401  (fill the registry)
from sparse_rnn.data.sequences import drawn, images  # noqa: F401  (fill the registry)
from sparse_rnn.models.base import ModelConfig
from sparse_rnn.optim.configurations import OptimizerConfig
from sparse_rnn.sparsity import lottery  # noqa: F401  (fill the registry)
from sparse_rnn.sparsity.iss import penalty  # noqa: F401  (fill the registry)
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.rules.growth import GrowthRule

SWITCHES = ("auto", "on", "off")
MOST = {"epochs": 1_000_000, "bptt": 1_000_000, "max_bptt": 1_000_000}


@dataclass
class RecipeConfig:
    """The papers' settings for one model and one optimizer.

    sparsity, removal_rate: what the sparsifier has unless it is given others (None: the sparsifier must be given them).
    er: the initial distribution of methods that start from Erdos-Renyi, er or er_gates. model, optimizer: the only
    ones that the settings are for, where the recipe's name does not say so. assumed: what the papers do not give, and
    where it was taken from instead.
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
    """Length and shape of training.

    epochs: how often the training split is read. batch: sequences side by side. bptt: window length in tokens.
    variable_bptt: whether windows have random lengths around it. max_bptt: the longest of the random lengths (None: no
    limit).
    sub_batch: sequences per forward and backward pass, each with its own dropout masks; the optimizer steps after the
    whole batch (None: the batch in one pass). clip: largest gradient norm (None: no clipping). valid_batch, test_batch:
    sequences side by side in evaluation.
    fused, graph: `on`, `off` or `auto`. On a GPU, fused computes cells, loss and optimizer by Triton kernels, and graph
    replays whole steps as CUDA graphs (see sparse_rnn.backends.gpu.choice). Neither is part of a run's identity.
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
    fused: str = "auto"
    graph: str = "auto"

    def __post_init__(self) -> None:
        for key in ("fused", "graph"):
            if getattr(self, key) not in SWITCHES:
                raise ConfigError(f"training.{key}={getattr(self, key)} must be one of {', '.join(SWITCHES)}.")
        for key in ("epochs", "batch", "bptt", "valid_batch", "test_batch", "max_bptt", "sub_batch"):
            if (value := getattr(self, key)) is not None:
                check_whole(f"training.{key}", value, 1, MOST.get(key, LARGEST))
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"training.clip={self.clip} must be greater than 0, or null for none.")


@dataclass
class BudgetConfig:
    """How much of the paper's size and length a run has.

    average_by: share of the epochs after which averaging starts in any case. train_tokens, eval_tokens: tokens taken
    of the training split, and of each other split (None: all).
    """

    name: str = MISSING
    average_by: float = 1.0
    train_tokens: int | None = None
    eval_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.average_by <= 1:
            raise ConfigError(f"budget.average_by={self.average_by} must lie in (0, 1].")
        for key in ("train_tokens", "eval_tokens"):
            if (value := getattr(self, key)) is not None:
                check_whole(f"budget.{key}", value, 2)


@dataclass
class CheckpointConfig:
    """What is stored of a run so that it can resume, and afterwards.

    every_minutes: minutes between checkpoints, at least. keep: the weights left after training: best, last or none.
    """

    every_minutes: float = 10.0
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last", "none"):
            raise ConfigError(f"checkpoint.keep={self.keep} must be one of best, last, none.")
        if not self.every_minutes > 0:
            raise ConfigError(f"checkpoint.every_minutes={self.every_minutes} must be greater than 0.")


@dataclass
class SnapshotsConfig:
    """What is stored of a run after every epoch, for topological distances and for looking at states.

    enabled: whether masks and hidden states are; snapshots=true is short for it. tokens: of how many tokens of the test
    split, its first, the hidden states are.
    """

    enabled: bool = False
    tokens: int = 2000

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise ConfigError(f"snapshots.tokens={self.tokens} must be at least 2.")


@dataclass
class LoggerConfig:
    """What is written of a run besides metrics.jsonl; several loggers may be on at once.

    name: the file that was chosen, the last one of several. wandb: whether a W&B run is written. tensorboard: whether
    an event file of TensorBoard is written. mlflow: whether a run in MLflow is written. mode: of the W&B run, offline
    or online. project, entity: where a W&B run belongs (entity None: the user's default); MLflow's experiment has the
    project's name. uri: MLflow's store (None: the variable MLFLOW_TRACKING_URI, else a database in the folder of all
    runs). every: steps between rows of training loss.
    """

    name: str = "files"
    wandb: bool = False
    tensorboard: bool = False
    mlflow: bool = False
    mode: str = "offline"
    project: str = "sparse_rnn"
    entity: str | None = None
    uri: str | None = None
    every: int = 200

    def __post_init__(self) -> None:
        if self.mode not in ("offline", "online"):
            raise ConfigError(f"logger.mode={self.mode} must be one of offline, online.")
        if self.every < 1:
            raise ConfigError(f"logger.every={self.every} must be at least 1.")


@dataclass
class RunConfig:
    """A run's configuration as Hydra composes it.

    model, dataset, optimizer, growth, sparsifier, recipe, protocol, budget, logger: chosen by name, as in model=rhn;
    each has keys of its own. training, checkpoint, snapshots: groups of keys.
    seed: of all random numbers but those of init_seed. init_seed: of the weights and of the first topology. device:
    auto, cpu, cuda or cuda:N. threads: how many torch uses on the CPU (None: as many as it does by itself). precision:
    fp32, tf32 or bf16, of matrix products. deterministic: on a GPU, only algorithms that repeat their results bit for
    bit.
    """

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
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = 1
    init_seed: int = II("seed")
    device: str = "auto"
    threads: int | None = None
    precision: str = "fp32"
    deterministic: bool = False


@dataclass
class Run:
    """A checked configuration: RunConfig with the types of its components."""

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
    precision: str = "fp32"
    deterministic: bool = False
