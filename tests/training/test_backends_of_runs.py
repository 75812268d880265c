"""Runs that compute with active entries alone: chosen, refused, recorded, converted."""

import math
from typing import Any

import pytest
import torch
from run_helpers import Train, composed, folder_of, record_of, rows_of
from safetensors import safe_open
from stopping import stop_at
from storages import ON_KERNELS

from sparse_rnn.backends import choice as backend
from sparse_rnn.backends.cpu.compile import KernelsUnavailable
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.stored import differences
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.tensor_files import CHECKSUM
from sparse_rnn.inference.evaluate import evaluate_run
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training import session
from sparse_rnn.training.assembly import check_method
from sparse_rnn.training.checkpoint import load_checkpoint
from sparse_rnn.training.trainer import Trainer

SPARSE, MASKED = "sparsifier.backend=sparse", "sparsifier.backend=masked"
SPARSE_AT_33 = "Backend sparse: 33% of the sparse weights are active, and it computes with those alone."
MASKED_AT_90 = "Backend masked: 90% of the sparse weights are active, and above 50% masks are faster."
CLOSE = 2e-3  # float32, after 60 steps
METHODS = (  # at a learning rate of 1: at 40, rounding grows
    "sparsifier=selfish optimizer.lr=1",
    "optimizer=adam sparsifier=rigl",
    "model=rhn sparsifier=snfs optimizer.lr=1",
)


of_the_choice = pytest.mark.skipif(ON_KERNELS, reason="the choice is made for them")


@pytest.fixture
def large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if runs were long, and the kernels compiled."""
    monkeypatch.setattr(backend, "START_SECONDS", 0)
    monkeypatch.setattr(backend, "are_compiled", lambda: True)


def best(folder: RunFolder) -> dict[str, torch.Tensor]:
    with safe_open(folder.best, framework="pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def test_a_run_means_the_same_under_both(tiny: list[str], train_here: Train) -> None:
    own = [*tiny, "sparsifier=static_uniform", "snapshots=true", "optimizer.lr=1"]
    masked, sparse = (train_here([*own, which], which[-6:]) for which in (MASKED, SPARSE))
    assert masked.path.name == sparse.path.name
    records = [record_of(folder) for folder in (masked, sparse)]
    assert [record["backend"] for record in records] == ["masked", "sparse"]
    for key in ("parameters", "active_parameters", "sparsity", "run_id", "signal"):
        assert records[0][key] == records[1][key], key
    for row, other in zip(rows_of(masked), rows_of(sparse), strict=True):
        large = {key for key in row if key.startswith("large_weights/")}
        assert [row.pop(key) for key in large] == pytest.approx([other.pop(key) for key in large], rel=0.1, abs=3)
        assert row == pytest.approx(other, rel=CLOSE)
    for name, tensor in best(masked).items():
        torch.testing.assert_close(tensor, best(sparse)[name], rtol=CLOSE, atol=1e-4)
    for ours, theirs in zip(*(sorted(folder.snapshots.iterdir()) for folder in (masked, sparse)), strict=True):
        with safe_open(ours, framework="pt") as one, safe_open(theirs, framework="pt") as other:
            assert one.metadata() | {CHECKSUM: ""} == other.metadata() | {CHECKSUM: ""}
            for name in one.keys():  # noqa: SIM118
                torch.testing.assert_close(one.get_tensor(name), other.get_tensor(name), rtol=CLOSE, atol=5e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", [(MASKED, SPARSE), (SPARSE, MASKED)])
@pytest.mark.parametrize("moment", [("train", 2, 5), ("valid", 3, 1)])
def test_a_checkpoint_resumes_under_the_other(
    tiny: list[str],
    train_here: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    order: tuple[str, str],
    moment: tuple[str, int, int],
) -> None:
    own = [*tiny, *method.split(), "checkpoint.keep=last"]
    undisturbed = train_here([*own, order[1]], "undisturbed")
    capsys.readouterr()
    stop_at(monkeypatch, train_here, [*own, order[0]], moment)
    folder = train_here([*own, order[1]])
    words = [which.rpartition("=")[2] for which in order]
    assert f"warning: this run started with backend={words[0]} and resumes with {words[1]}" in capsys.readouterr().out
    results, expected = (record_of(each)["results"] for each in (folder, undisturbed))
    assert results.pop("weights") == expected.pop("weights")
    assert results == pytest.approx(expected, rel=CLOSE)
    states = [load_checkpoint(each.checkpoint) for each in (folder, undisturbed)]
    assert [shapes(state) for state in states[:1]] == [shapes(state) for state in states[1:]]


def shapes(state: Any) -> Any:
    """Of all tensors in a checkpoint."""
    if isinstance(state, torch.Tensor):
        return tuple(state.shape)
    if isinstance(state, dict):
        return {key: shapes(value) for key, value in state.items() if key not in ("state", "rng", "metrics")}
    return [shapes(value) for value in state] if isinstance(state, list | tuple) else None


def test_the_last_weights_of_a_sparse_run_can_be_evaluated(
    tiny: list[str], train_here: Train, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [*tiny, "sparsifier=selfish", SPARSE]
    stop_at(monkeypatch, train_here, own, ("train", 4, 3))
    run = composed([*own, "logger=files"])
    data = run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)
    folder = folder_of(own, root)
    for weights in ("raw", "averaged", "best"):
        results, origin = evaluate_run(run, data, folder, "valid", weights, torch.device("cpu"))
        assert math.isfinite(results["loss"])
        assert weights in origin or weights == "best"


@of_the_choice
def test_small_networks_are_masked_by_themselves(
    tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_of(train_here(tiny))["backend"] == "masked"
    assert "Backend" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("sparsifier.sparsity=0.67", SPARSE_AT_33),
        ("sparsifier.sparsity=0.1", MASKED_AT_90),
        ("sparsifier=gmp", "Backend masked: sparsifier=gmp starts dense."),
        ("sparsifier=iss", "Backend masked: sparsifier=iss needs all entries."),
        ("sparsifier=snfs optimizer=adam", "Backend masked: dense gradients are needed in every step."),
        ("sparsifier=snfs optimizer=snt_asgd", SPARSE_AT_33),
        ("sparsifier=rigl optimizer=adam", SPARSE_AT_33),
        ("optimizer=nt_asgd", "Backend masked: averages of optimizer=nt_asgd keep the history of inactive weights."),
        ("optimizer=nt_asgd sparsifier=static_er", SPARSE_AT_33),
        ("protocol=official_code", "Backend masked: protocol=official_code steps on dense gradients."),
    ],
)
@of_the_choice
@pytest.mark.usefixtures("large_enough")
def test_auto_chooses_and_says_why(
    tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str], overrides: str, said: str
) -> None:
    record = record_of(train_here([*tiny, *overrides.split(), "training.epochs=1"]))
    assert said in capsys.readouterr().out
    assert record["backend"] == said.split()[1].rstrip(":")


@of_the_choice
@pytest.mark.usefixtures("large_enough")
def test_auto_compiles_for_a_run_that_gains_more(
    tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "are_compiled", lambda: False)
    own = [*tiny, "training.epochs=1"]
    assert record_of(train_here(own))["backend"] == "masked"
    said = "Backend masked: compiling the kernels would take longer than they save in this run (some 0 s)."
    assert said in capsys.readouterr().out
    monkeypatch.setattr(backend, "SAVED_SECONDS", 1)
    assert record_of(train_here(own, "long"))["backend"] == "sparse"
    assert SPARSE_AT_33 in capsys.readouterr().out


@of_the_choice
@pytest.mark.parametrize("explicit", [MASKED, SPARSE])
@pytest.mark.usefixtures("large_enough")
def test_auto_resumes_with_what_the_run_began_with(
    tiny: list[str],
    train_here: Train,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    explicit: str,
) -> None:
    begun = explicit.rpartition("=")[2]
    stop_at(monkeypatch, train_here, [*tiny, explicit], ("train", 2, 5))
    monkeypatch.setattr(backend, "START_SECONDS", 0 if begun == "masked" else 1)  # a new run would take the other one
    capsys.readouterr()
    assert record_of(train_here(tiny))["backend"] == begun
    said = capsys.readouterr().out
    assert f"Backend {begun}: as the run began." in said
    assert "resumes with" not in said


@pytest.mark.usefixtures("large_enough")
def test_without_kernels_auto_says_so_once_and_masks(
    tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise KernelsUnavailable("There is no C++ compiler: install one.")

    monkeypatch.setattr(backend, "kernels", missing)
    assert record_of(train_here([*tiny, "training.epochs=1"]))["backend"] == "masked"
    assert capsys.readouterr().out.count("Backend masked: There is no C++ compiler: install one.") == 1
    with pytest.raises(ConfigError, match=r"^There is no C\+\+ compiler: install one\.$"):
        train_here([*tiny, SPARSE, "training.epochs=1"], "explicit")


@pytest.mark.parametrize(
    ("overrides", "device", "reason"),
    [
        ("", "cuda", "its kernels are for the CPU and device=cuda"),
        ("sparsifier=dense", "cpu", "there is no sparse weight"),
        ("sparsifier=iss", "cpu", "sparsifier=iss needs all entries"),
        ("protocol=official_code", "cpu", "protocol=official_code steps on dense gradients"),
        ("optimizer=nt_asgd", "cpu", "averages of optimizer=nt_asgd keep the history of inactive weights"),
    ],
)
def test_what_cannot_be_sparse_is_refused(tiny: list[str], overrides: str, device: str, reason: str) -> None:
    run = composed([*tiny, *overrides.split(), SPARSE])
    with pytest.raises(ConfigError) as refused:
        check_method(run, torch.device(device))
    sentence = f"sparsifier.backend=sparse is not possible, because {reason}: use sparsifier.backend=masked."
    assert str(refused.value) == sentence


def test_the_backend_is_no_part_of_a_run(tiny: list[str]) -> None:
    one, other = composed([*tiny, SPARSE]), composed([*tiny, MASKED])
    assert run_id(one) == run_id(other) == run_id(composed(tiny))
    older = as_dict(one)
    del older["sparsifier"]["backend"]
    assert differences(as_dict(one), as_dict(other)) == differences(older, as_dict(other)) == []


@pytest.mark.parametrize("weight", ["decoder.weight", "lstm.weight_hh_l0"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_seen(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, weight: str, value: float
) -> None:
    class Broken(Trainer):
        def train_step(self, batch: Any) -> None:
            if self.state.step == 3:
                self.topology[weight].parameter.data[7] = value
            super().train_step(batch)

    monkeypatch.setattr(session, "Trainer", Broken)
    expected = (
        r"loss became (nan|inf) in epoch 1, step 4" if math.isnan(value) or "decoder" in weight else "loss became"
    )
    with pytest.raises(RunFailed, match=expected):
        train_here([*tiny, SPARSE])
