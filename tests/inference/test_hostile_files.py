"""A file that does not hold an exported model is refused in one sentence, whatever is wrong with it."""

import json
import math
import random
import re

import numpy as np
import pytest
import torch
from exported_models import made, stored
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.tensor_files import CHECKSUM
from sparse_rnn.inference.exported import LAYOUTS, load_exported
from sparse_rnn.inference.sparse_indices import pack_positions


def setting(**changes):
    """A change of the recorded model configuration."""

    def change(tensors, metadata):
        config = json.loads(metadata["config"])
        config["model"] |= changes
        metadata["config"] = json.dumps(config)

    return change


def told(key, value):
    """A change of the metadata; None: it is missing."""

    def change(tensors, metadata):
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value

    return change


def edited(name, edit):
    """A change of a tensor; None: it is missing."""

    def change(tensors, metadata):
        tensors[name] = edit(tensors[name]).contiguous()

    return change


def moved(tensor, index, value):
    """A tensor with one other element."""
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


def sparse_bias(tensors, metadata):
    """A bias that lacks its last entry."""
    bias = tensors.pop("decoder.bias")
    bitmap = torch.from_numpy(np.packbits(np.arange(11) < 10))
    tensors |= {"decoder.bias.bitmap": bitmap, "decoder.bias.values": bias[:-1].clone()}
    tensors["decoder.bias.shape"] = torch.tensor([11])
    metadata["active_parameters"] = str(int(metadata["active_parameters"]) - 1)


def claims(rows):
    """A model whose embedding and decoder are so large and empty that nothing else in the file is."""

    def change(tensors, metadata):
        setting(hidden=rows)(tensors, metadata)
        for name, height in {"embedding": 11, "decoder": 11, "lstm.weight": 4 * rows}.items():
            for key in [key for key in tensors if key.startswith(name)]:
                del tensors[key]
            own = (
                [f"{name}.weight"]
                if name != "lstm.weight"
                else [f"{name}_{k}_l{n}" for k in ("ih", "hh") for n in "01"]
            )
            for weight in own:
                empty = pack_positions(torch.zeros(0, dtype=torch.int64), height, rows, "csr")
                parts = {"shape": torch.tensor([height, rows]), "values": torch.zeros(0), **empty}
                tensors |= {f"{weight}.{part}": tensor for part, tensor in parts.items()}
        tensors["decoder.bias"] = torch.zeros(11)
        tensors |= {f"lstm.bias_{k}_l{n}": torch.zeros(4 * rows) for k in ("ih", "hh") for n in "01"}
        metadata["parameters"] = str(22 * rows + 11 + 16 * rows * rows + 16 * rows)
        metadata["active_parameters"] = str(11 + 16 * rows)

    return change


W = "lstm.weight_hh_l0"
DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE = {
    "no metadata": lambda tensors, metadata: metadata.clear(),
    "another format": told("format", "pt"),
    "a later version": told("version", "2"),
    "another layout": told("layout", "dense"),
    "an unknown layout": told("layout", "bsr"),
    "a layout with a long name": told("layout", "x" * 10_000),
    "the layout of another": told("layout", "coo"),
    "no configuration": told("config", None),
    "a configuration that is no JSON": told("config", "{"),
    "a configuration that is a list": told("config", "[]"),
    "a configuration that is deep": told("config", DEEP),
    "an unknown model": setting(name="../../x"),
    "a model that has no name": setting(name=["rhn"]),
    "another model": setting(name="rhn"),
    "an unknown key": setting(command="x"),
    "a width of zero": setting(hidden=0),
    "a negative width": setting(hidden=-6),
    "a width that is a text": setting(hidden="6"),
    "a width that is a list": setting(hidden=[6]),
    "a width that is broken": setting(hidden=6.5),
    "a width that is no number": setting(hidden=math.nan),
    "a width without end": setting(hidden=math.inf),
    "a width of another model": setting(hidden=7),
    "a huge width": setting(hidden=10**9),
    "a width beyond 64 bits": setting(hidden=10**30),
    "another depth": setting(layers=3),
    "a huge depth": setting(layers=10**9),
    "a depth as large as the file": setting(layers=5_000),
    "a dropout that is a text": setting(dropout="x"),
    "sizes that are no list": told("sizes", "11"),
    "no sizes": told("sizes", "[]"),
    "too many sizes": told("sizes", "[11, 3]"),
    "a size that is true": told("sizes", "[true]"),
    "a size that is negative": told("sizes", "[-11]"),
    "a size that is huge": told("sizes", "[1000000000000]"),
    "a size of other data": told("sizes", "[12]"),
    "a size with many digits": told("sizes", f"[{'9' * 5000}]"),
    "a wrong count": told("parameters", "1"),
    "a wrong active count": told("active_parameters", "1"),
    "a model that would fill the memory": claims(4000),
    "a missing bias": lambda tensors, metadata: tensors.pop("decoder.bias"),
    "missing values": lambda tensors, metadata: tensors.pop(f"{W}.values"),
    "missing starts": lambda tensors, metadata: tensors.pop(f"{W}.starts"),
    "a missing shape": lambda tensors, metadata: tensors.pop(f"{W}.shape"),
    "one tensor more": lambda tensors, metadata: tensors.update(extra=torch.zeros(1)),
    "a weight twice": lambda tensors, metadata: tensors.update({W: torch.zeros(24, 6)}),
    "another shape": edited(f"{W}.shape", lambda t: torch.tensor([6, 24])),
    "a shape of more dimensions": edited(f"{W}.shape", lambda t: torch.tensor([24, 6, 1])),
    "a shape of broken numbers": edited(f"{W}.shape", lambda t: t.double()),
    "a bias of other length": edited("decoder.bias", lambda t: t[1:]),
    "a bias of other type": edited("decoder.bias", lambda t: t.double()),
    "values of other type": edited(f"{W}.values", lambda t: t.half()),
    "values that are whole": edited(f"{W}.values", lambda t: t.int()),
    "values in two dimensions": edited(f"{W}.values", lambda t: t[None]),
    "a value too few": edited(f"{W}.values", lambda t: t[1:]),
    "columns of other type": edited(f"{W}.columns", lambda t: t.long()),
    "a column too few": edited(f"{W}.columns", lambda t: t[1:]),
    "a column outside": edited(f"{W}.columns", lambda t: moved(t.int(), 3, 6).to(torch.uint16)),
    "columns that do not rise": edited(f"{W}.columns", lambda t: t.int().flip(0).to(torch.uint16)),
    "an entry twice": edited(f"{W}.columns", lambda t: t.int().mul(0).to(torch.uint16)),
    "starts of other type": edited(f"{W}.starts", lambda t: t.int()),
    "a start too few": edited(f"{W}.starts", lambda t: t[1:]),
    "starts that begin late": edited(f"{W}.starts", lambda t: moved(t.int(), 0, 1).to(torch.uint16)),
    "starts that end early": edited(f"{W}.starts", lambda t: moved(t.int(), -1, 1).to(torch.uint16)),
    "starts that fall": edited(f"{W}.starts", lambda t: moved(t.int(), 1, 60_000).to(torch.uint16)),
}
HOSTILE_GAPS = {
    "a gap of zero": edited(f"{W}.gaps", lambda t: moved(t.int(), 5, 0).to(torch.uint16)),
    "a gap beyond the end": edited(f"{W}.gaps", lambda t: moved(t.int(), 5, 60_000).to(torch.uint16)),
    "a gap too few": edited(f"{W}.gaps", lambda t: t[1:]),
    "gaps of other type": edited(f"{W}.gaps", lambda t: t.int()),
    "a long gap that is missing": edited(f"{W}.gaps", lambda t: moved(t.int(), 5, 65_535).to(torch.uint16)),
    "a long gap too many": edited(f"{W}.long_gaps", lambda t: torch.tensor([65_535])),
    "long gaps of other type": edited(f"{W}.long_gaps", lambda t: t.int()),
}
HOSTILE_BITMAPS = {
    "a bitmap too short": edited(f"{W}.bitmap", lambda t: t[1:]),
    "a bitmap too long": edited(f"{W}.bitmap", lambda t: torch.cat([t, t[:1]])),
    "a bitmap of other type": edited(f"{W}.bitmap", lambda t: t.int()),
    "a bitmap in two dimensions": edited(f"{W}.bitmap", lambda t: t[None]),
    "a bit too many": edited(f"{W}.bitmap", lambda t: moved(t, t.argmin(), int(t.min()) | int(t.min()) + 1)),
    "a bit too few": edited(f"{W}.bitmap", lambda t: moved(t, t.argmax(), int(t.max()) & int(t.max()) - 1)),
    "a bitmap that is missing": lambda tensors, metadata: tensors.pop(f"{W}.bitmap"),
    "a bit after the last entry": edited("decoder.weight.bitmap", lambda t: moved(t, -1, int(t[-1]) | 1)),
    "a type that is unknown": told("values", "int8"),
    "another type than it says": told("values", "bf16"),
    "a bias that is sparse": sparse_bias,
    "one tensor of another type": edited("decoder.bias", lambda t: t.bfloat16()),
}
CASES = [("csr", name, change) for name, change in HOSTILE.items()] + [
    ("coo", name, change) for name, change in HOSTILE_GAPS.items()
]
CASES += [("packed", name, change) for name, change in HOSTILE_BITMAPS.items()]


@pytest.mark.parametrize(("layout", "change"), [(c[0], c[2]) for c in CASES], ids=[c[1] for c in CASES])
@pytest.mark.timeout(20)
def test_a_hostile_file_is_refused_in_one_sentence(layout, change, tmp_path):
    path = stored(tmp_path / "model.safetensors", layout, *made("stacked_lstm"))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    del metadata[CHECKSUM]  # which would give the change away
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    refused(path)


def refused(path):
    with pytest.raises(DamagedFile, match=r"model\.safetensors does not hold an exported model \(") as refusal:
        load_exported(path)
    assert re.fullmatch(r"[^\n]{,500}\)\.", str(refusal.value))


def test_a_file_cut_short_or_with_a_header_that_lies_is_refused(tmp_path):
    path = stored(tmp_path / "model.safetensors", "csr", *made("stacked_lstm"))
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    cuts = [whole[:n] for n in (0, 7, 8, 9, 8 + length // 2, 8 + length, len(whole) - 1)]
    lies = [n.to_bytes(8, "little") + whole[8:] for n in (0, 1, length - 1, length + 1, 1 << 40, (1 << 64) - 1)]
    offsets = [
        whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1),
        whole.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        whole.replace(b'"dtype":"F32"', b'"dtype":"F64"', 1),
        whole + b"x",
    ]
    for content in (*cuts, *lies, *offsets, b"PK\x03\x04" + whole):
        path.write_bytes(content)
        refused(path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"model\.safetensors does not exist\.$"):
        load_exported(path)
    path.mkdir()
    with pytest.raises(ConfigError, match=r"model\.safetensors is a folder without model\.safetensors"):
        load_exported(path)
    (path / "model.safetensors").mkdir()
    refused(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_with_any_byte_changed_is_read_or_refused(layout, tmp_path):
    path = stored(tmp_path / "model.safetensors", layout, *made("stacked_lstm"))
    whole, chance, refusals = path.read_bytes(), random.Random(1), 0
    for _ in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            load_exported(path)
        except DamagedFile:
            refusals += 1
    assert refusals
