"""What a run prints before its first step."""

from collections.abc import Sequence
from typing import Any

import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import differences
from sparse_rnn.data.base import Data
from sparse_rnn.training.loggers import Terminal
from sparse_rnn.training.trainer import Trainer

ENOUGH_STEPS = 1000
MANY_WEIGHTS = 0.5


def sizes_reached(trainer: Trainer) -> dict[str, Any]:
    """What the record says of the size: parameters, sparsity kept; and the dense signal that growth reads."""
    signals = sorted(trainer.sparsifier.needs)
    signal = signals[0] if signals else None
    return {**trainer.parameter_counts(), "sparsity": trainer.sparsifier.final_sparsity, "signal": signal}


def _announce(run: Run, data: Data, trainer: Trainer, terminal: Terminal, overrides: Sequence[str]) -> None:
    counts = sizes_reached(trainer)
    sizes = ", ".join(f"{n:,} {what}" for n, what in zip(data.sizes, ("words", "classes"), strict=False))
    terminal.say(f"{trainer.folder.path}  (recipe {run.recipe.name}, protocol {run.protocol.name})")
    if run.recipe.assumed:
        terminal.say(f"Assumed by the recipe: {run.recipe.assumed}.")
    if run.budget.name != "paper" and (changes := budget_changes(run, overrides)):
        terminal.say(f"budget={run.budget.name} changes {', '.join(changes)}.")
    terminal.say(
        f"{counts['active_parameters']:,} of {counts['parameters']:,} parameters active (sparsity "
        f"{counts['sparsity']:.4f}); {' / '.join(f'{n:,}' for n in data.counts.values())} {data.unit}, "
        f"{sizes}; {torch.get_num_threads()} threads"
    )
    if not trainer.backend.expected:
        terminal.say(f"Backend {trainer.backend.name}: {trainer.backend.reason}.")
    terminal.say(f"For comparison, {trainer.task.comparison()}.")
    if sentence := updates_too_often(run, len(trainer.task.batches(0))):
        terminal.say(sentence)
    if trainer.saved_by != trainer.backend.name:
        terminal.say(
            f"warning: this run was begun with backend={trainer.saved_by} and goes on with {trainer.backend.name}: its "
            "numbers will be those of an undisturbed run but for rounding"
        )
    if trainer.state.step:
        terminal.say(f"Going on after step {trainer.state.step}.")


def updates_too_often(run: Run, steps: int) -> str:
    """A warning if most weights are moved before new ones had time to grow; `steps`: those of an epoch."""
    method = run.sparsifier
    often = method.dynamic and method.update_interval == "epoch" and steps < ENOUGH_STEPS
    often = often and run.model.task == "language_modelling"  # ST-RNN's classifiers are updated this often
    if not often or method.removal_rate < MANY_WEIGHTS or run.budget.name == "smoke":
        return ""
    return (
        f"warning: in {steps:,} steps between topology updates (Penn Treebank: 1,328) new weights may not grow up: "
        f"choose a sparsifier.removal_rate lower than {method.removal_rate:g}"
    )


def budget_changes(run: Run, overrides: Sequence[str]) -> list[str]:
    """What a budget changed against the paper's, as `key old -> new`."""
    paper, own = as_dict(compose_run([o for o in overrides if not o.startswith("budget=")])), as_dict(run)
    return [
        f"{key} {_value(paper, key)} -> {_value(own, key)}"
        for key in differences(paper, own)
        if key not in ("budget.name", "budget.average_by")
    ]


def _value(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node
