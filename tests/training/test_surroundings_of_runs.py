"""No terminal, disk or variable around a run fails it, or changes what it is called."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from run_helpers import Commands, Train, folder_of, record_of
from wandb_files import history, run_record, segments

pytestmark = pytest.mark.processes

FULL = "stdout could not be written (No space left on device)"


@pytest.mark.parametrize(
    ("redirected", "said"),
    [
        (">/dev/full", f"warning: {FULL}.\n"),
        (">/dev/full 2>/dev/full", ""),
        (">&-", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_a_full_or_closed_stdout_fails_no_run(tiny: list[str], root: Path, redirected: str, said: str) -> None:
    overrides = [*tiny, "logger=files"]
    command = shlex.join([sys.executable, "-m", "sparse_rnn.train", *overrides])
    done = subprocess.run(["bash", "-c", f"{command} {redirected}"], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, said)
    assert record_of(folder_of(overrides, root))["status"] == "finished"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"/caf?/"), ("latin-1", b"/caf\xe9/")])
def test_an_accent_in_the_path_of_a_run(tiny: list[str], tmp_path: Path, encoding: str, shown: bytes) -> None:
    root = tmp_path / "caf\u00e9"
    overrides = [*tiny, "logger=files"]
    environment = {**os.environ, "SPARSE_RNN_RUNS": str(root), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "sparse_rnn.train", *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout
    assert record_of(folder_of(overrides, root))["status"] == "finished"


def test_a_runs_folder_that_is_no_utf8_is_refused_before_training(tiny: list[str], tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "-m", "sparse_rnn.train", *tiny]
    done = subprocess.run(command, env={**os.environb, b"SPARSE_RNN_RUNS": root}, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: The name of the runs folder ")
    assert done.stderr.count(b"\n") == 1
    assert not os.path.exists(root)


# What W&B 0.31 would do by each: another id, another folder, another mode, refuse, look for a process that is gone.
OF_ANOTHER_RUN = {
    "WANDB_SWEEP_ID": "xyz",
    "WANDB_LAUNCH": "true",
    "WANDB_RUN_ID": "other",
    "WANDB_X_SYNC_DIR_SUFFIX": "other",
    "WANDB__SYNC_DIR_SUFFIX": "other",
    "WANDB_USE_DOT_WANDB": "true",
    "WANDB_DIR": "elsewhere",
    "WANDB_MODE": "disabled",
    "WANDB_RESUME": "must",
    "WANDB_FORK_FROM": "other?_step=1",
    "WANDB_X_SKIP_TRANSACTION_LOG": "true",
    "WANDB_SWEEP_PARAM_PATH": "missing.yaml",
    "WANDB_CONFIG_PATHS": "missing.yaml",
    "WANDB_RUN_GROUP": "other",
    "WANDB_NAME": "other",
    "WANDB_SERVICE": "of a process that is gone",
    "TRAINING_JOB_NAME": "SageMaker's",
}


@pytest.mark.parametrize("names", [["WANDB_SWEEP_ID"], ["WANDB_LAUNCH"], list(OF_ANOTHER_RUN)])
def test_no_variable_of_wandb_changes_a_run(tiny: list[str], commands: Commands, names: list[str]) -> None:
    overrides = [*tiny, "logger=wandb"]
    folder = folder_of(overrides, commands.root)
    code, said = commands.run(overrides, **{name: OF_ANOTHER_RUN[name] for name in names})
    assert code == 0
    (segment,) = segments(folder)
    assert segment.parent.parent == folder.path / "wandb"
    assert segment.parent.name.endswith(f"-{folder.path.name}")
    run = run_record(segment)
    assert run.run_id == run.display_name == folder.path.name
    assert len(history(segment)) > 4
    [warning] = [line for line in said.splitlines() if line.startswith("warning: ignored")]
    told = {name for name in names if name not in ("WANDB_SERVICE", "TRAINING_JOB_NAME")}
    assert warning == f"warning: ignored {', '.join(sorted(told))}: logger.* says how W&B keeps a run."


def test_variables_come_back_after_a_run(tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "xyz")
    train_here([*tiny, "logger=wandb"])
    assert os.environ["WANDB_SWEEP_ID"] == "xyz"


@pytest.mark.parametrize("home", ["/dev/null", "/proc/no-home"])
def test_without_a_home_wandb_logs_into_the_run(tiny: list[str], commands: Commands, home: str) -> None:
    overrides = [*tiny, "logger=wandb"]
    code, said = commands.run(overrides, HOME=home, XDG_CACHE_HOME="")
    assert code == 0
    assert "INFO" not in said
    assert "ERROR" not in said
    assert list((folder_of(overrides, commands.root).path / "wandb" / "cache").rglob("core-debug-*.log"))


def test_a_wrong_variable_of_wandb_is_one_sentence(tiny: list[str], commands: Commands) -> None:
    code, said = commands.run([*tiny, "logger=wandb"], WANDB_BASE_URL="nowhere")
    assert code == 2
    assert "error: A variable WANDB_* of the environment is wrong (base_url: Input should be a valid URL" in said
    assert "Traceback" not in said
