"""A file that does not hold an extracted network is refused in one sentence, whatever is wrong with it."""

import json
import math
import os
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.inference.extract import extract, load_extracted, save_extracted
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig

CONFIGS = {"rhn": RHNConfig(hidden=6, depth=3), "uneven_lstm": StackedLSTMConfig(hidden=6)}
DEEP = "[" * 100_000 + "]" * 100_000
RHN, LSTM = "rhn", "uneven_lstm"
SETTINGS = [
    (RHN, {"hidden": 10**12}),
    (RHN, {"hidden": 10**30}),
    (RHN, {"hidden": "6"}),
    (RHN, {"hidden": [6]}),
    (RHN, {"hidden": 0}),
    (RHN, {"hidden": math.inf}),
    (RHN, {"depth": 10**9}),
    (RHN, {"depth": 2000}),
    (RHN, {"depth": 2}),
    (RHN, {"command": "x"}),
    (RHN, {"name": "uneven_lstm"}),
    (RHN, {"name": ["rhn"]}),
    (LSTM, {"widths": [6] * 2000}),
    (LSTM, {"widths": [10**12, 6]}),
    (LSTM, {"widths": [[6], [6]]}),
    (LSTM, {"widths": []}),
    (LSTM, {"widths": "66"}),
    (LSTM, {"widths": 6}),
    (LSTM, {"widths": [6, 6.5]}),
    (LSTM, {"widths": [-6, 6]}),
    (LSTM, {"embedding": 10**15}),
    (LSTM, {"dropout": "x"}),
    (LSTM, {"dropout": math.nan}),
]
CONTENTS = {"a list": "[]", "no JSON": "{", "deep": DEEP, "no name": "{}", "a number": "3"}


@pytest.fixture
def stored(tmp_path):
    """Write a network, then change its configuration and tensors; returns the path."""

    def write(kind, change=lambda settings, tensors: None, config=None):
        path = tmp_path / "small.safetensors"
        torch.manual_seed(1)
        extracted = extract(CONFIGS[kind], CONFIGS[kind].build(11))
        save_extracted(path, extracted, "a-run")
        tensors, settings = load_file(path), dict(vars(extracted.config))
        change(settings, tensors)
        save_file(tensors, path, {"config": json.dumps(settings) if config is None else config})
        return path

    return write


def refused(path, reason=""):
    with pytest.raises(DamagedFile, match=r"small\.safetensors does not hold an extracted network \(") as refusal:
        load_extracted(path)
    assert re.fullmatch(r"[^\n]{,500}\)\.", str(refusal.value))
    assert reason in str(refusal.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_unchanged_network_is_read(kind, stored):
    assert load_extracted(stored(kind)) is not None


@pytest.mark.parametrize(("kind", "changes"), SETTINGS)
@pytest.mark.timeout(20)
def test_other_settings_are_refused(kind, changes, stored):
    refused(stored(kind, lambda settings, tensors: settings.update(changes)))


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_configuration_that_is_none_is_refused(content, stored):
    refused(stored("rhn", config=content))


TENSORS = {
    "missing": lambda tensors: tensors.pop("decoder.bias"),
    "not of the model": lambda tensors: tensors.update(more=torch.zeros(1)),
    "embedding.weight": lambda tensors: tensors.pop("embedding.weight"),
    "must be torch.float32 [11]": lambda tensors: tensors.update({"decoder.bias": torch.zeros(12)}),
    "must be torch.float32 [11, 6]": lambda tensors: tensors.update({"decoder.weight": torch.zeros(11, 6).double()}),
    "complex": lambda tensors: tensors.update({k: t.to(torch.complex64) for k, t in tensors.items()}),
    "torch.int64": lambda tensors: tensors.update({k: t.long() for k, t in tensors.items()}),
    "0-d tensor": lambda tensors: tensors.update({"embedding.weight": torch.tensor(1.0)}),
}


@pytest.mark.parametrize("reason", TENSORS)
def test_other_tensors_are_refused(reason, stored):
    refused(stored("uneven_lstm", lambda settings, tensors: TENSORS[reason](tensors)), reason)


def test_a_changed_value_and_a_pipe_are_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    save_extracted(path, extract(CONFIGS["rhn"], CONFIGS["rhn"].build(11)), "a-run")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    refused(path, "its checksum is not that of what was written")
    path.unlink()
    os.mkfifo(path)
    refused(path, "(it is a FIFO, no file).")
