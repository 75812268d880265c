"""The smaller dense network that is left when whole structures have been removed (Wen et al. 2018)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.models.base import LanguageModel, ModelConfig
from sparse_rnn.models.rhn import RHN, RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.models.uneven_lstm import UnevenLSTM, UnevenLSTMConfig
from sparse_rnn.sparsity.iss.structures import check_structures, find_structures

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Extracted:
    """A dense network, its configuration and the widths of its layers."""

    config: UnevenLSTMConfig | RHNConfig
    model: UnevenLSTM | RHN
    widths: list[int]

    @property
    def parameters(self) -> int:
        """Number of parameters, biases too."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def extract(config: ModelConfig, model: nn.Module) -> Extracted:
    """The network without the structures whose entries are all zero; it computes what `model` does in evaluation.

    config: that of `model`. Raises ConfigError for a model whose structures are not known.

    A removed unit has a state still, by its biases, but nothing reads it. A layer that has lost all of them keeps one,
    since nn.LSTM needs it.
    """
    check_structures(model)
    weights, kept = dict(model.named_parameters()), []
    for layer in find_structures(weights):
        present = layer.present(weights).nonzero().flatten()
        kept.append(present if len(present) else torch.zeros(1, dtype=torch.long, device=present.device))
    if isinstance(config, RHNConfig):
        return _smaller_rhn(config, weights, kept[0])
    assert isinstance(config, StackedLSTMConfig)
    return _smaller_lstm(config, weights, kept)


def _smaller_rhn(config: RHNConfig, weights: Mapping[str, Tensor], kept: Tensor) -> Extracted:
    smaller = replace(config, hidden=len(kept))
    rows = torch.cat([kept, kept + config.hidden])
    model = smaller.build(len(weights["embedding.weight"])).to(weights["embedding.weight"])
    for name, parameter in model.named_parameters():
        taken = weights[name][rows] if name.startswith("highway.") else weights[name]
        _fill(parameter, taken[:, kept] if taken.dim() > 1 else taken)
    return Extracted(smaller, model, [len(kept)])


def _smaller_lstm(config: StackedLSTMConfig, weights: Mapping[str, Tensor], kept: list[Tensor]) -> Extracted:
    widths = [len(units) for units in kept]
    smaller = UnevenLSTMConfig(embedding=config.hidden, widths=widths, dropout=config.dropout)
    model = smaller.build(len(weights["embedding.weight"])).to(weights["embedding.weight"])
    inputs = torch.arange(config.hidden, device=kept[0].device)
    for k, (layer, units) in enumerate(zip(model.layers, kept, strict=True)):
        rows = torch.cat([units + gate * config.hidden for gate in range(4)])
        for name, parameter in layer.named_parameters():
            taken = weights[f"lstm.{name.removesuffix('0')}{k}"][rows]
            columns = units if name.startswith("weight_hh") else inputs
            _fill(parameter, taken[:, columns] if taken.dim() > 1 else taken)
        inputs = units
    _fill(model.embedding.weight, weights["embedding.weight"])
    _fill(model.decoder.weight, weights["decoder.weight"][:, inputs])
    _fill(model.decoder.bias, weights["decoder.bias"])
    return Extracted(smaller, model, widths)


@torch.no_grad()
def _fill(parameter: Tensor, values: Tensor) -> None:
    parameter.copy_(values)


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module, vocabulary: int) -> float:
    """The largest difference of logits on two windows of 20 random tokens by 3 sequences, the hidden states carried
    from one to the next; in evaluation and float64, which both models are put into."""
    tokens = torch.randint(vocabulary, (2, 20, 3), generator=torch.Generator().manual_seed(0))
    outputs = []
    for model in (first, second):
        assert isinstance(model, LanguageModel)
        model.eval().double()
        hidden, logits = model.initial_hidden(3), []
        for window in tokens.to(next(model.parameters()).device):
            output, hidden = model(window, hidden)
            logits.append(model.decoder(output))
        outputs.append(torch.stack(logits))
    return float((outputs[0] - outputs[1]).abs().max())


def save_extracted(path: Path, extracted: Extracted, run: str) -> None:
    """Write parameters as safetensors, the configuration, widths, number of parameters and the run in its metadata."""
    tensors = {name: parameter.detach().cpu() for name, parameter in extracted.model.named_parameters()}
    metadata = {
        "run": run,
        "config": json.dumps(asdict(extracted.config)),
        "widths": json.dumps(extracted.widths),
        "parameters": str(extracted.parameters),
    }
    save_tensors(path, tensors, metadata)


def load_extracted(path: Path) -> UnevenLSTM | RHN:
    """The model that `save_extracted` wrote, ready to evaluate or to train on. Raises DamagedFile."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            settings = json.loads(stored.metadata()["config"])
        schema = RHNConfig if settings["name"] == "rhn" else UnevenLSTMConfig
        model = schema(**settings).build(len(tensors["embedding.weight"])).to(tensors["embedding.weight"])
        for name, parameter in model.named_parameters():
            _fill(parameter, tensors[name])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"{path} does not hold an extracted network ({error}).") from error
    return model
