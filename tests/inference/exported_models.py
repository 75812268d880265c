"""Models with random weights and masks, and files of them."""

import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.inference.export import save_exported
from sparse_rnn.models.base import LanguageModel
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier

SMOKE = ("budget=smoke", "logger=files", "threads=1")
SPARSE = ("csr", "coo", "packed")
SIZES = {
    "stacked_lstm": ["model.hidden=6"],
    "rhn": ["model.hidden=6", "model.depth=3"],
    "on_lstm": ["model.embedding=4", "model.hidden=6", "model.chunk=2"],
    "awd_lstm_mos": ["model.embedding=4", "model.hidden=6", "model.last_hidden=5", "model.experts=3"],
    "gru": ["model.hidden=6"],
    "min_gru": ["model.hidden=6"],
    "slstm": ["model.hidden=6"],
    "mamba": ["model.hidden=6", "model.states=2"],
    "lstm_classifier": ["model.embedding=5", "model.hidden=4", "dataset=pydoc_topics"],
}


def made(model: str, *overrides: str, vocabulary: int = 11):
    """A model with random weights and masks: configuration, model, topology, sizes."""
    run = compose_run([f"model={model}", *SIZES[model], *SMOKE, *overrides])
    sizes = [vocabulary, 3] if model == "lstm_classifier" else [vocabulary]
    torch.manual_seed(1)
    built = run.model.build(*sizes)
    topology = make_topology(run.sparsifier, built)
    make_sparsifier(run, topology, make_optimizer(run, built))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.uniform_(-1, 1)
        topology.mask_weights()
    return run, built.eval(), topology, sizes


def stored(path, layout, run, model, topology, sizes, values="fp32"):
    """The same, in a file; returns its path."""
    about = {"run": "a-run", "config": as_dict(run), "sizes": sizes, "weights": "best, raw, epoch 1"}
    save_exported(path, model, topology, layout, about, values)
    return path


def outputs(model):
    """What a model says of two windows of tokens."""
    tokens = torch.randint(11, (2, 7, 3), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        if not isinstance(model, LanguageModel):
            return [model(window) for window in tokens]
        hidden, found = model.initial_hidden(3), []
        for window in tokens:
            output, hidden = model(window, hidden)
            found.append(model.log_probabilities(output))
        return found
