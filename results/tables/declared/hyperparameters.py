"""Table 4 of Selfish-RNN: the hyperparameters, read off the recipes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.core.conf import options
from sparse_rnn.core.registry import lookup
from sparse_rnn.sparsity.gates import find_gates

from ..grid import Grid
from .parts import UNKNOWN, declared_grid, headings, in_order_of, sections

TITLE, SOURCE = "Hyperparameters", "Selfish-RNN (ICML 2021), Table 4"
COLUMNS = (
    *("Model", "Data", "Opt", "Lr", "Lr drop", "Bs", "BPTT", "Dropout", "Epochs", "Tied", "Coupled", "Clip"),
    *("Nonmono", "P"),
)
MODELS = {"stacked_lstm": "Stacked LSTM", "rhn": "RHN", "on_lstm": "ON-LSTM", "awd_lstm_mos": "AWD-LSTM-MoS"}
OPTIMIZERS = {"adam": "Adam", "snt_asgd": "SNT-ASGD", "momentum_sgd": "Momentum SGD", "nt_asgd": "NT-ASGD"}
CORPORA = {"ptb": "PTB", "wikitext2": "WikiText-2"}
DROPOUTS = ("dropout_word", "dropout_input", "dropout_hidden", "dropout_output")


def table4() -> Grid:
    """The settings of the paper's recipes, and below those of all others; raises ConfigError."""
    listed: list[list[str]] = []
    others: list[list[str]] = []
    assumed: dict[str, list[str]] = {}
    for run in _recipes():
        of_paper = run.model.name in MODELS and run.optimizer.name in OPTIMIZERS and not run.recipe.assumed
        (listed if of_paper else others).append(_settings(run))
        if run.recipe.assumed:
            assumed.setdefault(run.recipe.assumed, []).append(run.recipe.name)
    notes = (
        "Dropout: of words, of the embedding, of hidden layers, of the output. For the stacked LSTM the paper prints "
        "(0, 0, 0.65, 0), and its code has one dropout at the embedding, between layers and at the output, as here.",
        "Lr drop (A, B): B epochs without improvement are allowed before the learning rate is divided by A. P: initial "
        "removal rate. Nonmono: for averaging optimizers.",
        *(f"{', '.join(recipes)}: {what}." for what, recipes in assumed.items()),
    )
    return declared_grid(
        "table4",
        TITLE,
        SOURCE,
        header=[headings(*COLUMNS)],
        sections=sections(listed, others),
        notes=notes,
        made_from="conf/recipe",
    )


def _recipes() -> Iterator[Run]:
    """Every recipe for a language model and an optimizer, composed."""
    recipes = options("recipe")
    for model in in_order_of(list(MODELS), options("model")):
        if lookup("model", model).task != "language_modelling":
            continue
        for optimizer in in_order_of(list(OPTIMIZERS), options("optimizer")):
            if f"{model}_{optimizer}" in recipes:
                yield compose_run([f"model={model}", f"optimizer={optimizer}"])


def _settings(run: Run) -> list[str]:
    """A recipe's fields in the order of COLUMNS."""
    with torch.device("meta"):
        network = run.model.build(*run.dataset.sizes())
    optimizer: Any = run.optimizer
    training = run.training
    everywhere = getattr(run.model, "dropout", 0)
    dropouts = [getattr(run.model, key, 0 if key == "dropout_word" else everywhere) for key in DROPOUTS]
    falls = hasattr(optimizer, "plateau_factor") and optimizer.plateau_factor < 1
    return [
        MODELS.get(run.model.name, run.model.name),
        CORPORA.get(run.dataset.name, run.dataset.name),
        OPTIMIZERS.get(optimizer.name, optimizer.name),
        f"{optimizer.lr:g}",
        f"({1 / optimizer.plateau_factor:.3g}x, {optimizer.plateau_patience})" if falls else UNKNOWN,
        str(training.batch),
        str(training.bptt),
        f"({', '.join(f'{dropout:g}' for dropout in dropouts)})",
        str(training.epochs),
        "yes" if _is_tied(network) else "no",
        "yes" if _is_coupled(network) else "no",
        UNKNOWN if training.clip is None else f"{training.clip:g}",
        str(getattr(optimizer, "nonmono", UNKNOWN)),
        f"{run.sparsifier.removal_rate:g}",
    ]


def _is_tied(network: nn.Module) -> bool:
    """Whether another module uses the weight of an embedding."""
    modules = list(network.modules())
    embeddings = {id(module.weight) for module in modules if isinstance(module, nn.Embedding)}
    others = [module for module in modules if not isinstance(module, nn.Embedding)]
    return any(id(weight) in embeddings for module in others for weight in module.parameters(recurse=False))


def _is_coupled(network: nn.Module) -> bool:
    """Whether there are transform gates without carry gates of their own."""
    names = {name for gates in find_gates(network).values() for name in gates.rows}
    return "transform" in names and "carry" not in names
