"""What is done with a run that was trained on a GPU, and how a run there fails."""

import math

import pytest
import torch
from device_runs import DEVICE, MODELS, overrides_of, record_of

from sparse_rnn import evaluate, export, extract, generate
from sparse_rnn.core.errors import RunFailed
from sparse_rnn.inference.export import load_exported
from sparse_rnn.training.trainer import Trainer


def evaluated(folder, **named):
    """The number that `evaluate` prints."""
    given = {**evaluate.DEFAULTS, "run": str(folder.path), "device": DEVICE, **named}
    line = evaluate.evaluate(**given)
    return float(line.split(" loss ")[1].split()[0])


@pytest.mark.parametrize("model", MODELS)
def test_evaluate_repeats_the_recorded_loss(runs, model):
    folder = runs(overrides_of(model, "selfish", None))
    for split in ("valid", "test"):
        recorded = record_of(folder)["results"][f"{split}/loss"]
        assert evaluated(folder, split=split) == pytest.approx(recorded, rel=1e-5, abs=1e-4)
        assert evaluated(folder, split=split, device="cpu") == pytest.approx(recorded, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("weights", ["raw", "averaged"])
def test_weights_of_the_last_checkpoint(runs, weights):
    folder = runs([*overrides_of("stacked_lstm", "selfish", "snt_asgd"), "checkpoint.keep=last"])
    assert math.isfinite(evaluated(folder, weights=weights))


def test_generate_writes(runs):
    folder = runs(overrides_of("rhn", "selfish", "snt_asgd"))
    text = generate.generate(**{**generate.DEFAULTS, "run": str(folder.path), "words": "12"})
    assert len(text.split()) >= 1


@pytest.mark.parametrize("layout", export.FORMATS)
def test_what_is_exported_computes_the_same(runs, layout, tmp_path):
    folder = runs(overrides_of("stacked_lstm", "selfish", "snt_asgd"))
    path = tmp_path / "model.safetensors"
    export.export_run(**{**export.DEFAULTS, "run": str(folder.path), "format": layout, "out": str(path)})
    model = load_exported(path).to(DEVICE)
    tokens = torch.zeros(3, 2, dtype=torch.long, device=DEVICE)
    output, _ = model(tokens, model.initial_hidden(2))
    assert output.isfinite().all()


def test_extract_finds_the_smaller_network(runs):
    folder = runs(overrides_of("stacked_lstm", "iss", "sgd"))
    assert "parameters" in extract.extract_run(**{**extract.DEFAULTS, "run": str(folder.path)})


class Cramped(Trainer):
    """Lets the process have 8 MB more than it has when training begins."""

    def train_epochs(self):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (8 << 20)) / total)
        super().train_epochs()


def test_too_little_memory_is_one_sentence(runs):
    large = overrides_of("stacked_lstm", "static_uniform", "sgd", "model.hidden=1000")
    try:
        with pytest.raises(RunFailed, match=r"^[^\n]*memory[^\n]*\.$"):
            runs(large, trainer=Cramped)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
