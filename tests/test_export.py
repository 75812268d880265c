"""An exported model computes what the run's does, whatever the layout; a file that is not sound is refused."""

import json
import math
import random
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file
from scipy.sparse import csr_matrix

from sparse_rnn.backends.cpu.modules import use_sparse_kernels
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.core.errors import ConfigError, DamagedFile, RunFailed
from sparse_rnn.export import export_run
from sparse_rnn.inference import export as exported
from sparse_rnn.inference.export import LAYOUTS, holds, load_exported, save_exported
from sparse_rnn.inference.load import load_data
from sparse_rnn.inference.sparse_indices import pack_positions
from sparse_rnn.models.base import LanguageModel
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier, make_task
from sparse_rnn.training.session import train

SMOKE = ("budget=smoke", "logger=files", "threads=1")
SPARSE = ("csr", "coo")
SIZES = {
    "stacked_lstm": ["model.hidden=6"],
    "rhn": ["model.hidden=6", "model.depth=3"],
    "on_lstm": ["model.embedding=4", "model.hidden=6", "model.chunk=2"],
    "awd_lstm_mos": ["model.embedding=4", "model.hidden=6", "model.last_hidden=5", "model.experts=3"],
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


def stored(path, layout, run, model, topology, sizes):
    """The same, in a file; returns its path."""
    about = {"run": "a-run", "config": as_dict(run), "sizes": sizes, "weights": "best, raw, epoch 1"}
    save_exported(path, model, topology, layout, about)
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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SIZES)
def test_what_is_read_back_computes_the_same(name, layout, tmp_path):
    run, model, topology, sizes = made(name)
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    torch.manual_seed(5)
    again = load_exported(path)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3)), "loading must not draw from the caller's generator"
    assert type(again) is type(model)
    assert not again.training
    assert holds(again, model, topology)
    for first, second in zip(outputs(model), outputs(again), strict=True):
        assert torch.equal(first, second)
    assert [f"{weight.name}.values" in load_file(path) for weight in topology] == [layout in SPARSE] * len(topology)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_of_the_kernels_is_exported_like_a_masked_one(layout, tmp_path):
    run, model, topology, sizes = made("rhn")
    masked = load_file(stored(tmp_path / "masked.safetensors", layout, run, model, topology, sizes))
    use_sparse_kernels(model, topology)
    path = stored(tmp_path / "sparse.safetensors", layout, run, model, topology, sizes)
    assert load_file(path).keys() == masked.keys()
    assert all(torch.equal(tensor, masked[name]) for name, tensor in load_file(path).items())
    assert holds(load_exported(path), model, topology)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_finite_and_what_is_active_and_zero_stay_as_they_are(layout, tmp_path):
    run, model, topology, sizes = made("stacked_lstm")
    weight = topology["lstm.weight_hh_l0"]
    with torch.no_grad():
        weight.parameter[weight.mask] = torch.tensor([math.nan, math.inf, -math.inf, 0.0]).repeat(weight.active)[
            : weight.active
        ]
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    again = load_exported(path)
    assert holds(again, model, topology)
    assert again.lstm.weight_hh_l0.isnan().any()
    if layout in SPARSE:
        assert load_file(path)["lstm.weight_hh_l0.values"].numel() == weight.active


@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("sparsity", [0.5, 0.67, 0.9, 0.95])
def test_the_file_is_no_larger_than_it_may_be(sparsity, layout, tmp_path):
    """At most 1.6 x density x the dense file, at the width of the papers' layers less the vocabulary."""
    settings = ["model.hidden=300", f"sparsifier.sparsity={sparsity}"]
    run, model, topology, sizes = made("stacked_lstm", *settings, vocabulary=500)
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    dense = stored(tmp_path / "dense.safetensors", "dense", run, model, topology, sizes)
    total = sum(parameter.numel() for parameter in model.parameters())
    density = (total - topology.size + topology.active) / total
    assert path.stat().st_size <= 1.6 * density * dense.stat().st_size


def test_a_file_can_be_read_without_this_project(tmp_path):
    run, model, topology, sizes = made("rhn")
    made_of = (run, model, topology, sizes)
    csr = load_file(stored(tmp_path / "csr.safetensors", "csr", *made_of))
    coo = load_file(stored(tmp_path / "coo.safetensors", "coo", *made_of))
    for weight in topology:
        values, columns, starts, shape = (csr[f"{weight.name}.{p}"] for p in ("values", "columns", "starts", "shape"))
        matrix = csr_matrix((values.numpy(), columns.numpy(), starts.numpy()), shape.tolist())
        assert torch.equal(torch.from_numpy(matrix.toarray()), weight.parameter)
        flat = torch.zeros(weight.parameter.numel())
        flat[coo[f"{weight.name}.gaps"].long().cumsum(0)] = coo[f"{weight.name}.values"]
        assert torch.equal(flat.view_as(weight.parameter), weight.parameter)
    dense = run.model.build(*sizes)
    missing, unexpected = load_model(dense, stored(tmp_path / "dense.safetensors", "dense", *made_of))
    assert not missing
    assert not unexpected
    assert holds(dense, model, topology)


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
CASES = [("csr", name, change) for name, change in HOSTILE.items()] + [
    ("coo", name, change) for name, change in HOSTILE_GAPS.items()
]


@pytest.mark.parametrize(("layout", "change"), [(c[0], c[2]) for c in CASES], ids=[c[1] for c in CASES])
@pytest.mark.timeout(20)
def test_a_hostile_file_is_refused_in_one_sentence(layout, change, tmp_path):
    path = stored(tmp_path / "model.safetensors", layout, *made("stacked_lstm"))
    with exported.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
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
    refused(path)
    path.mkdir()
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run with its last checkpoint: averages and raw weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(tmp_path_factory.mktemp("runs")))
        overrides = ["model=awd_lstm_mos", "dataset=pydoc", *SMOKE, "checkpoint.keep=last"]
        config = compose_run(overrides)
        train(config, overrides)
        return runs_root() / run_id(config)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trained_run_is_exported_and_gives_its_recorded_result(layout, trained, tmp_path):
    line = export_run(str(trained), layout, str(tmp_path / "model.safetensors"), "best")
    record = read_record(RunFolder(trained))
    config = compose_run(["model=awd_lstm_mos", "dataset=pydoc", *SMOKE, "checkpoint.keep=last"])
    data = load_data(RunFolder(trained), record, config)
    model = load_exported(str(tmp_path / "model.safetensors"))
    task = make_task(config, data, model, torch.device("cpu"))
    assert task.evaluate("valid")["loss"] == record["results"]["valid/loss"]
    found = re.fullmatch(
        rf"{trained.name}  {layout}  ([\d,]+) of ([\d,]+) bytes: ([01]\.\d+), (\d\.\d\d) x density (0\.\d{{3}})  \S+",
        line,
    )
    size, dense = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert size == (tmp_path / "model.safetensors").stat().st_size
    assert dense == 4 * record["parameters"]
    assert float(found[5]) == pytest.approx(record["active_parameters"] / record["parameters"], abs=5e-4)
    assert float(found[4]) == pytest.approx(size / dense / float(found[5]), abs=0.01)
    with exported.safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == set(exported.METADATA)
    assert metadata["run"] == trained.name
    assert json.loads(metadata["config"]) == record["config"]
    assert float(metadata["sparsity"]) == record["sparsity"]
    assert int(metadata["active_parameters"]) == record["active_parameters"]


def test_the_weights_of_the_last_checkpoint_are_exported_too(trained, tmp_path):
    files = {}
    for weights in ("best", "averaged", "raw"):
        export_run(str(trained), "csr", str(tmp_path / weights), weights)
        files[weights] = load_exported(tmp_path / weights)
        with exported.safe_open(tmp_path / weights, framework="pt") as file:
            assert file.metadata()["weights"].startswith(weights)
    assert not holds(files["raw"], files["averaged"], SparseTopology([]))


def test_without_a_file_named_it_is_in_the_run_folder_and_replaced(trained):
    path = trained / "exported-coo.safetensors"
    path.write_text("old")
    assert export_run(str(trained), "coo", "", "best").endswith(str(path))
    load_exported(path)
    path.unlink()


def test_what_cannot_be_exported_is_one_sentence(trained, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "best.safetensors").write_bytes(b"x")
    wrong = [
        (["nowhere", "csr", "", "best"], "nowhere"),
        ([str(trained), "cs", "", "best"], r"format=cs does not exist \(did you mean csr"),
        ([str(trained), "csr", "", "mean"], "weights=mean must be"),
        ([str(trained), "csr", str(tmp_path / "a" / "b"), "best"], "its folder does not exist"),
        ([str(trained), "csr", str(tmp_path), "best"], "is a folder"),
        ([str(trained), "csr", ".", "best"], "is a folder"),
        ([str(copy), "csr", "", "best"], "does not hold the weights"),
    ]
    for arguments, complaint in wrong:
        with pytest.raises(ConfigError, match=complaint) as refusal:
            export_run(*arguments)
        assert re.fullmatch(r"[^\n]+\.", str(refusal.value))
    monkeypatch.setattr(exported, "holds", lambda *arguments: False)
    with pytest.raises(RunFailed, match="this is a defect"):
        export_run(str(trained), "csr", str(tmp_path / "x"), "best")
    assert not (tmp_path / "x").exists()


def test_a_run_without_masks_is_exported_dense(tmp_path):
    overrides = ["sparsifier=dense", "dataset=pydoc", *SMOKE, "training.epochs=1"]
    config = compose_run(overrides)
    train(config, overrides)
    with pytest.raises(ConfigError, match=r"sparsifier=dense, which has no masks: use format=dense\.$"):
        export_run(run_id(config), "csr", "", "best")
    assert "1.01 x density 1.000" in export_run(run_id(config), "dense", "", "best")
