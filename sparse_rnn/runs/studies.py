"""A study: the runs that `launch tune` tried, as a file that anything can read. Imports nothing heavy."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import atomic
from sparse_rnn.core.metrics import is_share
from sparse_rnn.core.reading import load_object

FILE = "study.json"
FOLDER = Path(".launch") / "tune"  # below the folder of the runs
COMPLETE, PRUNED, FAILED, RUNNING = TRIAL_STATES = ("complete", "pruned", "failed", "running")


class TrialFile(TypedDict):
    """The shape of a trial in study.json."""

    number: int
    state: str
    run_id: str
    parameters: dict[str, Any]
    value: float | None
    epochs: int


class StudyFile(TypedDict):
    """The shape of study.json."""

    name: str
    space: dict[str, str]
    overrides: list[str]
    metric: str
    trials: list[TrialFile]
    importance: dict[str, float]


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    parameters: the values that were tried, by key, as an override has them. value: of the study's metric, of the last
    epoch where it was pruned; None if the run has none. epochs: how many were trained.
    """

    number: int
    state: str
    run_id: str
    parameters: dict[str, Any]
    value: float | None = None
    epochs: int = 0


@dataclass(frozen=True)
class Study:
    """What a study tunes and what it found.

    space: the range or the choices of each key, as they were asked for. overrides: of all its runs. metric: what a run
    is judged by, as in `valid/perplexity`. importance: the share of each key in what sets good trials apart (Optuna's
    PED-ANOVA), in [0, 1], summing to 1; empty while too few trials are complete.
    """

    name: str
    space: dict[str, str]
    overrides: list[str]
    metric: str
    trials: list[Trial] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)


def ranked(study: Study) -> list[Trial]:
    """All trials: the complete ones from the best value on, then the others by number."""
    sign = -1 if is_share(study.metric) else 1

    def place(trial: Trial) -> tuple[bool, float, int]:
        judged = trial.state == COMPLETE and trial.value is not None
        return trial.state != COMPLETE, sign * (trial.value or 0.0) if judged else math.inf, trial.number

    return sorted(study.trials, key=place)


def best_trial(study: Study) -> Trial | None:
    """The complete trial with the best value; None if there is none."""
    first = next(iter(ranked(study)), None)
    return first if first and first.state == COMPLETE and first.value is not None else None


def studies(root: Path) -> list[Path]:
    """The folders of all studies below the folder of the runs, by name."""
    return sorted(path.parent for path in (root / FOLDER).glob(f"*/{FILE}"))


def read_study(folder: Path) -> Study | None:
    """The study in a folder, None if there is none; raises DamagedFile."""
    found = load_object(folder / FILE, StudyFile, "a study")
    if found is None:
        return None
    wrong = [trial["state"] for trial in found["trials"] if trial["state"] not in TRIAL_STATES]
    if wrong:
        raise DamagedFile(f"{folder / FILE} is damaged: a trial's state is {wrong[0]!r}.")
    return Study(**{**found, "trials": [Trial(**trial) for trial in found["trials"]]})


def write_study(study: Study, folder: Path) -> None:
    """Write study.json, complete or not at all."""
    with atomic(folder / FILE) as draft:
        draft.write_text(json.dumps(asdict(study), indent=1) + "\n", encoding="utf-8")
