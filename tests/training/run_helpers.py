"""Runs for tests: tiny texts, in this process or in real ones that can be killed."""

import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.runs.folder import RunFolder

SMALL = [
    *("model.hidden=16", "training.epochs=4", "training.batch=4", "training.bptt=10"),
    *("training.valid_batch=2", "training.test_batch=1", "budget.train_tokens=600", "budget.eval_tokens=200"),
    *("budget.average_by=0.5", "checkpoint.every_minutes=0.0001", "logger.every=3", "threads=1", "device=cpu"),
]
Train = Callable[..., RunFolder]
VARYING = ("throughput/", "clock/")


def write_texts(folder: Path) -> list[str]:
    """Overrides for a corpus of 30 words whose training text is far shorter than a second's work."""
    words = [f"w{i}" for i in range(30)]
    draw = random.Random(0)
    overrides = ["dataset=text"]
    for split, lines in (("train", 60), ("valid", 12), ("test", 12)):
        path = folder / f"{split}.txt"
        path.write_text("".join(" ".join(draw.choices(words, k=9)) + "\n" for _ in range(lines)))
        overrides.append(f"dataset.{split}={path}")
    return [*overrides, *SMALL]


@cache
def _composed(overrides: tuple[str, ...]) -> Run:
    return compose_run(overrides)


def composed(overrides: Sequence[str]) -> Run:
    """The configuration of these overrides."""
    return _composed(tuple(overrides))


def folder_of(overrides: Sequence[str], root: Path) -> RunFolder:
    """Where a run of these overrides lives below `root`."""
    return RunFolder(root / run_id(composed(overrides)))


def record_of(folder: RunFolder) -> dict[str, Any]:
    """The record."""
    record: dict[str, Any] = json.loads(folder.record.read_text())
    return record


def rows_of(folder: RunFolder) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(VARYING)} for row in rows]


def lines_in(path: Path) -> int:
    """Number of rows written so far."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.002)
    return value


def train_command(arguments: Sequence[str], environment: dict[str, str], output: Path) -> None:
    """What `python -m sparse_rnn.train` does, in a process of its own with its output in a file."""
    os.setsid()
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update(environment)
    os.environ.pop("WANDB_SERVICE", None)  # of a W&B process that these tests have begun
    sys.argv = ["sparse_rnn.train", *arguments]
    from sparse_rnn.train import main

    main()


class Commands:
    """Starts training commands as real processes, forked from one that has torch loaded."""

    def __init__(self, root: Path) -> None:
        self.root, self.output = root, root.parent / f"{root.name}.output"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sparse_rnn.training.session", "sparse_rnn.train", "torch._dynamo"])
        self._started: list[BaseProcess] = []

    def start(self, arguments: Sequence[str], terminal: str | None = None, **environment: str) -> BaseProcess:
        """A running process; `terminal`: the device it writes to, instead of the file of all output."""
        environment = {"SPARSE_RNN_RUNS": str(self.root), **environment}
        output = Path(terminal) if terminal else self.output
        process = self._context.Process(target=train_command, args=(list(arguments), environment, output))
        process.start()
        self._started.append(process)
        return process

    def run(self, arguments: Sequence[str], **environment: str) -> tuple[int | None, str]:
        """Exit code and output of a command run to its end."""
        before = self.said
        process = self.start(arguments, **environment)
        process.join(60)
        return process.exitcode, self.said.removeprefix(before)

    @property
    def said(self) -> str:
        """All output so far."""
        return self.output.read_text() if self.output.exists() else ""

    def kill_all(self) -> None:
        """Leave no process behind."""
        for process in self._started:
            process.kill()
            process.join()
