"""The smaller dense network that is left when whole structures have been removed (Wen et al. 2018)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError, DamagedFile, RunFailed
from sparse_rnn.core.tensor_files import read_tensors, save_tensors
from sparse_rnn.inference.load import (
    give_tokenizer,
    kept_tokenizer,
    load_best,
    read_run,
    reraise_damaged,
    vocabulary_of,
)
from sparse_rnn.inference.sparse_indices import expect
from sparse_rnn.inference.untrusted import UNREADABLE, reason, refuse_large_sizes, refuse_other_names, skeleton_of
from sparse_rnn.models.base import LanguageModel, ModelConfig
from sparse_rnn.models.rhn import RHN, RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.models.uneven_lstm import UnevenLSTM, UnevenLSTMConfig
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.iss.structures import find_structures, present

TOLERANCE = 1e-9  # of logits in float64: sums in another order differ by about 1e-14


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


def extract_folder(folder: RunFolder, path: Path) -> tuple[Extracted, int]:
    """Write the smaller network of a run of ISS; returns it and the number of parameters of the run's own network.

    Raises ConfigError for a run of another method, RunFailed if the written network computes something else.
    """
    record, run = read_run(folder)
    if run.sparsifier.name != "iss":
        raise ConfigError(
            f"{folder.path} is a run of sparsifier={run.sparsifier.name}: only sparsifier=iss removes whole units."
        )
    with reraise_damaged():
        model, _, _ = load_best(run, record["sizes"], folder)
        extracted = extract(run.model, model)
        vocabulary = vocabulary_of(folder, kept_tokenizer(folder, record))
        save_extracted(path, extracted, folder.path.name, vocabulary)
        difference = largest_difference(model, load_extracted(path), record["sizes"][0])
    if not difference < TOLERANCE:
        path.unlink()
        raise RunFailed(f"The extracted network's logits differ from the run's by {difference:.1e}: this is a defect.")
    return extracted, sum(parameter.numel() for parameter in model.parameters())


def extract(config: ModelConfig, model: nn.Module) -> Extracted:
    """The network without the structures whose entries are all zero; it computes what `model` does in evaluation.

    config: that of `model`. Raises ConfigError for a model that declares no structures.

    A removed unit still has a state, from its biases, but nothing reads it. A layer that has lost all its units keeps
    one, because nn.LSTM needs it.
    """
    layers = find_structures(model)
    weights, kept = dict(model.named_parameters()), []
    for layer in layers:
        units = present(layer, weights).nonzero().flatten()
        kept.append(units if len(units) else torch.zeros(1, dtype=torch.long, device=units.device))
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
    """The largest difference of the two models' logits, on two windows of 20 random tokens by 3 sequences.

    Hidden states are carried from one window to the next. Both models are put into evaluation mode and float64.
    """
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


def save_extracted(path: Path, extracted: Extracted, run: str, vocabulary: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file of all parameters; metadata: run, configuration, widths, number of parameters.

    vocabulary: further metadata, see `vocabulary_of`.
    """
    tensors = {name: parameter.detach().cpu() for name, parameter in extracted.model.named_parameters()}
    metadata = {
        "run": run,
        "config": json.dumps(asdict(extracted.config)),
        "widths": json.dumps(extracted.widths),
        "parameters": str(extracted.parameters),
        **(vocabulary or {}),
    }
    save_tensors(path, tensors, metadata)


def load_extracted(path: Path) -> UnevenLSTM | RHN:
    """The model that `save_extracted` wrote, ready to evaluate or to train on, with its vocabulary. Raises DamagedFile.

    The file need not be trusted: nothing is allocated at a size that its tensors do not have.
    """
    try:
        tensors, metadata = read_tensors(path)
        settings, embedding = json.loads(metadata["config"]), tensors["embedding.weight"]
        config = (RHNConfig if settings["name"] == "rhn" else UnevenLSTMConfig)(**settings)
        refuse_large_sizes(config, [len(embedding)], path.stat().st_size)
        skeleton = dict(skeleton_of(config, [len(embedding)], 2 * len(tensors)).named_parameters())  # tied count twice
        refuse_other_names(skeleton.keys(), tensors)
        for name, parameter in skeleton.items():
            expect(tensors[name], name, embedding.dtype, list(parameter.shape))
        if not embedding.is_floating_point():
            raise ValueError(f"its weights are {embedding.dtype}")
        model = config.build(len(embedding)).to(embedding)
        give_tokenizer(model, metadata, [len(embedding)])
        for name, parameter in model.named_parameters():
            _fill(parameter, tensors[name])
    except UNREADABLE as error:
        raise DamagedFile(f"{path} does not hold an extracted network ({reason(error)}).") from error
    return model
