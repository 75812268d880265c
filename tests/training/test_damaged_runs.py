"""No damage to a file of a run changes its numbers without a word: the generation before is used, or it is refused."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_helpers import Train, folder_of, record_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stopping import stop_at
from test_resume import Crash, same

from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.tensor_files import CHECKSUM
from sparse_rnn.evaluate import evaluate
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from sparse_rnn.training.trainer import Trainer

CALM = ("checkpoint.every_minutes=1000", "sparsifier=rigl", "optimizer=adam")
BLOCK = 4096


def zeroed(content: bytes) -> bytes:
    """With a block of zeros in its middle, as after a crash of the file system."""
    start = min(len(content) // 2 // BLOCK * BLOCK, max(0, len(content) - BLOCK))
    size = min(BLOCK, len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeroed": zeroed,
    "flipped": lambda content: flipped(content, 4 * len(content)),
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbage": lambda content: random.Random(1).randbytes(len(content)),
}


def damage(path: Path, kind: str) -> None:
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


@pytest.fixture
def overrides(tiny: list[str]) -> list[str]:
    return [*tiny, *CALM]


@pytest.fixture
def stopped(overrides: list[str], root: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with two checkpoints, from epochs 2 and 3, between which the best weights have changed."""
    for moment in (("train", 2, 3), ("train", 3, 4)):
        stop_at(monkeypatch, train_here, overrides, moment)
    folder = folder_of(overrides, root)
    newest, before = load_checkpoint(folder.checkpoint), load_checkpoint(folder.previous_checkpoint)
    assert newest is not None
    assert before is not None
    assert (before["state"]["best_epoch"], newest["state"]["best_epoch"]) == (1, 2)
    assert (newest["metrics"]["bytes"], before["metrics"]["bytes"]) != (0, 0)
    return folder


@pytest.fixture
def expected(overrides: list[str], train_here: Train, tmp_path: Path) -> str:
    """The digest of the run without a disturbance."""
    return str(record_of(train_here(overrides, "undisturbed"))["digest"])


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("file", ["checkpoint", "best"])
def test_the_checkpoint_before_is_used(
    overrides: list[str],
    expected: str,
    stopped: RunFolder,
    train_here: Train,
    capsys: pytest.CaptureFixture[str],
    file: str,
    kind: str,
) -> None:
    damage(getattr(stopped, file), kind)
    capsys.readouterr()
    train_here(overrides)
    said = capsys.readouterr().out
    assert re.search(rf"^warning: .*/{file}\.\w+ .*damaged: the run resumes from the checkpoint before$", said, re.M)
    assert "Resuming after step 18." in said
    assert record_of(stopped)["digest"] == expected
    kept = {"record.json", "metrics.jsonl", "best.safetensors", "vocabulary.json"}
    assert {path.name for path in stopped.path.iterdir()} == kept


@pytest.mark.parametrize(("line", "resumes"), [(0, False), (-1, True)])
def test_damaged_rows(
    overrides: list[str], expected: str, stopped: RunFolder, train_here: Train, line: int, resumes: bool
) -> None:
    """Rows from before both checkpoints are lost; those between the two are trained again."""
    lines = stopped.metrics.read_text().splitlines()
    lines[line] = re.sub(r"(\d)(?=\D*$)", lambda digit: str((int(digit[1]) + 1) % 10), lines[line])
    stopped.metrics.write_text("\n".join(lines) + "\n")
    if resumes:
        assert record_of(train_here(overrides))["digest"] == expected
        return
    sentence = (
        r"metrics\.jsonl is damaged: .*: remove checkpoint\.pt and checkpoint\.previous\.pt to restart the run\.$"
    )
    with pytest.raises(ConfigError, match=sentence):
        train_here(overrides)
    stopped.checkpoint.unlink()
    stopped.previous_checkpoint.unlink()
    assert record_of(train_here(overrides))["digest"] == expected


@pytest.mark.parametrize("file", ["checkpoint", "best"])
def test_without_a_sound_generation_there_is_a_sentence(
    overrides: list[str], stopped: RunFolder, train_here: Train, file: str
) -> None:
    paths = [getattr(stopped, file), getattr(stopped, f"previous_{file}")]
    for path in paths:
        damage(path, "zeroed")
    before = {path: path.read_bytes() for path in stopped.path.iterdir() if path != stopped.record}
    sentence = rf"/{file}\..*damaged: remove checkpoint\.pt and checkpoint\.previous\.pt to restart the run\.$"
    with pytest.raises(ConfigError, match=sentence):
        train_here(overrides)
    assert {path: path.read_bytes() for path in stopped.path.iterdir() if path != stopped.record} == before


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(stopped: RunFolder, tmp_path: Path) -> None:
    whole, sound = stopped.checkpoint.read_bytes(), load_checkpoint(stopped.checkpoint)
    structure = whole.index(b"PK\x01\x02")  # the directory at the end, where a flip moves or renames what is stored
    draw, path, refused = random.Random(1), tmp_path / "flipped.pt", 0
    places = [draw.randrange(8 * len(whole)) for _ in range(150)]
    places += [draw.randrange(8 * structure, 8 * len(whole)) for _ in range(250)]
    for bit in places:
        path.write_bytes(flipped(whole, bit))
        try:
            same(load_checkpoint(path), sound)
        except DamagedFile:
            refused += 1
    assert refused > 200


def test_no_zeroed_block_of_a_checkpoint_goes_unnoticed(stopped: RunFolder, tmp_path: Path) -> None:
    whole, sound, path = stopped.checkpoint.read_bytes(), load_checkpoint(stopped.checkpoint), tmp_path / "zeroed.pt"
    unnoticed = 0
    for start in range(0, len(whole), BLOCK):
        size = len(whole[start : start + BLOCK])
        path.write_bytes(whole[:start] + bytes(size) + whole[start + size :])
        try:
            same(load_checkpoint(path), sound)
            unnoticed += any(whole[start : start + size])
        except DamagedFile:
            continue
    assert unnoticed == 0


@pytest.mark.parametrize("kind", ["zeroed", "flipped"])
def test_damaged_best_weights_of_a_finished_run(overrides: list[str], train_here: Train, kind: str) -> None:
    folder = train_here(overrides)
    damage(folder.best, kind)
    with pytest.raises(ConfigError, match=r"best\.safetensors does not hold the weights of this run \("):
        evaluate(str(folder.path), "test", "best", "", "cpu", "1")


def test_raw_weights_of_the_checkpoint_before(stopped: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    damage(stopped.checkpoint, "zeroed")
    before = {path: path.read_bytes() for path in stopped.path.iterdir()}
    assert evaluate(str(stopped.path), "valid", "raw", "", "cpu", "1").endswith("(raw, step 18 weights)")
    assert re.fullmatch(
        r"warning: \S+/checkpoint\.pt is damaged: the checkpoint before is used\n", capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in stopped.path.iterdir()} == before


def test_best_weights_of_another_attempt_are_refused(
    overrides: list[str], stopped: RunFolder, expected: str, train_here: Train
) -> None:
    """Of the same epoch, sound, with other values: as if that epoch had been trained again with other rounding."""
    with safe_open(stopped.best, framework="pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(stopped.best)
    tensors["decoder.bias"][0] += 1e-3
    del metadata[CHECKSUM]
    save_file(tensors, stopped.best, metadata)
    assert record_of(train_here(overrides))["digest"] == expected


def test_files_of_older_versions_are_resumed_from(
    overrides: list[str], stopped: RunFolder, expected: str, train_here: Train
) -> None:
    saved = load_checkpoint(stopped.checkpoint)
    assert saved is not None
    del saved["best"]
    saved["metrics"] = saved["metrics"]["bytes"]
    save_checkpoint(stopped.checkpoint, saved)
    with safe_open(stopped.best, framework="pt") as stored:
        metadata = stored.metadata()
    del metadata[CHECKSUM]
    save_file(load_file(stopped.best), stopped.best, metadata)
    stopped.previous_checkpoint.unlink()
    stopped.best.replace(stopped.next_best)  # where a kill of an older version could leave it
    stopped.previous_best.replace(stopped.best)
    assert record_of(train_here(overrides))["digest"] == expected


@pytest.mark.parametrize("damaged", [False, True])
def test_gone_at_every_renaming(
    tiny: list[str], root: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """Whatever a kill leaves, and even if it has damaged the newest checkpoint as well."""
    overrides = [*tiny, "checkpoint.every_minutes=0.0000001", "sparsifier=rigl", "training.epochs=2", "seed=2"]
    undisturbed = record_of(train_here(overrides, "undisturbed"))["digest"]
    rename, attempts = Path.replace, 0
    for renamings in (1, 2, 3, 5, 8, 13, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 10_000):
        count, attempts = 0, attempts + 1

        def crashing(self: Path, target: Any, most: int = renamings) -> Any:
            nonlocal count
            count += 1
            if count > most:
                raise Crash
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", crashing)
            try:
                folder = train_here(overrides)
                break
            except Crash:
                folder = folder_of(overrides, root)
        if damaged and attempts % 2 and folder.previous_checkpoint.exists() and folder.checkpoint.exists():
            damage(folder.checkpoint, "zeroed")
    assert attempts > 5
    assert record_of(folder)["digest"] == undisturbed


def test_rows_that_change_while_training_are_noticed(
    overrides: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = Trainer.evaluate_and_keep_best

    def spoiling(self: Trainer) -> Any:
        content = self.folder.metrics.read_bytes()
        if self.state.epoch == 3:
            self.folder.metrics.write_bytes(b"[" + content[1:])
        return evaluated(self)

    monkeypatch.setattr(Trainer, "evaluate_and_keep_best", spoiling)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is damaged"):
        train_here(overrides)
