"""What a run prints before its first step."""

from collections.abc import Sequence
from typing import Any

import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import differences
from sparse_rnn.core.device import device_name
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.data.base import Data, learned
from sparse_rnn.data.corpus import Corpus
from sparse_rnn.runs.parents import parent_of
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.training.asked_for import asked_for, in_one_line, without_machine
from sparse_rnn.training.captured_step import CapturedStep
from sparse_rnn.training.loggers.terminal import Terminal
from sparse_rnn.training.parameter_counts import parameter_counts
from sparse_rnn.training.trainer import Trainer

ENOUGH_STEPS = 1000
MANY_WEIGHTS = 0.5
ASKED = "Asked for: "


def announce(trainer: Trainer, data: Data, terminal: Terminal, overrides: Sequence[str]) -> None:
    """Print where the run is stored, how large it is, what to compare it with, and what may surprise.

    overrides: the command line's, which say what was asked for, and so what the budget has changed besides.
    """
    run, counts = trainer.run, parameter_counts(trainer.model, trainer.sparsifier)
    terminal.say(f"{trainer.device}: {', '.join([device_name(trainer.device), *ways_of_computing(trainer)])}")
    terminal.say(f"{trainer.folder.path}  (recipe {run.recipe.name}, protocol {run.protocol.name})")
    if asked := without_machine(asked_for(overrides, as_dict(run))):
        terminal.say(f"{ASKED}{in_one_line(asked, terminal.columns_left(ASKED))}")
    terminal.say(optimizer_settings(run))
    if run.recipe.assumed:
        terminal.say(f"Assumed by the recipe: {run.recipe.assumed}.")
    if run.budget.name != "paper" and (changes := budget_changes(run, overrides)):
        terminal.say(f"budget={run.budget.name} changes {', '.join(changes)}.")
    terminal.say(
        f"{counts['active_parameters']:,} of {counted(counts['parameters'], 'parameter')} active (sparsity "
        f"{trainer.sparsifier.final_sparsity:.4f}); {data_facts(data)}; {counted(torch.get_num_threads(), 'thread')}"
    )
    if run.device == "auto" and run.sparsifier.backend == "sparse" and torch.cuda.is_available():
        terminal.say("sparsifier.backend=sparse computes on the CPU, so device=auto leaves the GPU alone.")
    if parent := parent_of(run):
        terminal.say(f"Its topology are the largest weights of {run_id(parent)}.")
    if not trainer.backend.expected:
        terminal.say(f"Backend {trainer.backend.name}: {trainer.backend.reason}.")
    terminal.say(f"For comparison, {trainer.task.comparison()}.")
    # ST-RNN's classifiers are updated this often, and budget=smoke is not trained for its results.
    warned = learned(run.dataset) == "language_modelling" and run.budget.name != "smoke"
    if warned and (sentence := updates_too_often(run.sparsifier, len(trainer.task.batches(0)))):
        terminal.say(sentence)
    if trainer.saved_by != trainer.backend.name:
        terminal.say(
            f"warning: this run started with backend={trainer.saved_by} and resumes with {trainer.backend.name}: its "
            "numbers will be those of an uninterrupted run up to rounding"
        )
    if trainer.damage:
        terminal.say(f"warning: {trainer.damage}: the run resumes from the checkpoint before")
    if trainer.state.step:
        terminal.say(f"Resuming after step {trainer.state.step}.")


def data_facts(data: Data) -> str:
    """How large the data are, and how many tokens of the validation split are outside a vocabulary of training."""
    counts = " / ".join(f"{n:,}" for n in data.counts.values())
    sizes = [f"{n:,} {what}" for n, what in zip(data.sizes, data.size_names, strict=False)]
    unknown = data.unknown("valid") if isinstance(data, Corpus) else None
    outside = [] if unknown is None else [f"{unknown:,} of the validation tokens unknown"]
    return f"{counts} {data.unit}, {', '.join([*sizes, *outside])}"


def optimizer_settings(run: Run) -> str:
    """The optimizer with all its settings, since a recipe may differ in them from what everybody knows by its name."""
    settings = {key: value for key, value in as_dict(run.optimizer).items() if key != "name"}
    said = (f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in settings.items())
    return f"Optimizer {run.optimizer.name} (recipe {run.recipe.name}): {', '.join(said)}."


def ways_of_computing(trainer: Trainer) -> list[str]:
    """What is not as usual on the device: precision, algorithms, how steps are computed."""
    run = trainer.run
    named = {
        f"precision {run.precision}": run.precision != "fp32" or trainer.device.type == "cuda",
        "deterministic": run.deterministic and trainer.device.type == "cuda",
        "fused": trainer.step.fused,
        "CUDA graphs": isinstance(trainer.step, CapturedStep),
    }
    return [name for name, said in named.items() if said]


def updates_too_often(method: SparsifierConfig, steps: int) -> str:
    """A warning if updates move most weights before new ones had time to grow, or nothing; steps: per epoch."""
    often = method.dynamic and method.update_interval == "epoch" and steps < ENOUGH_STEPS
    if not often or method.removal_rate < MANY_WEIGHTS:
        return ""
    return (
        f"warning: {counted(steps, 'step')} between topology updates (Penn Treebank: 1,328) may be too few for new "
        f"weights to grow: choose a sparsifier.removal_rate below {method.removal_rate:g}"
    )


def budget_changes(run: Run, overrides: Sequence[str]) -> list[str]:
    """What a budget changed against the paper's, as `key old -> new`."""
    try:
        paper, own = as_dict(compose_run([o for o in overrides if not o.startswith("budget=")])), as_dict(run)
    except ConfigError:  # with recipe=none only the budget says how long to train: there is nothing to compare with
        return []
    return [
        f"{key} {_value(paper, key)} -> {_value(own, key)}"
        for key in differences(paper, own)
        if key not in ("budget.name", "budget.average_by")
    ]


def _value(config: dict[str, Any], key: str) -> Any:
    """What a configuration has under a key with dots."""
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node
