"""A study of Optuna, in a journal beside the runs: what to try next, which runs to end early, which keys matter."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.studies import COMPLETE, FAILED, PRUNED, RUNNING

from .search_space import Parameter

JOURNAL = "journal.log"
TRIALS_BEFORE_PRUNING = 4
STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
TOLD = {state: told for told, state in STATES.items()}


class StudyJournal:
    """The study of a folder, made or gone on with.

    more_is_better: of the value that a trial is judged by. warm_up: epochs in which no trial is pruned. Raises
    ConfigError if the folder holds a study of something else.
    """

    def __init__(
        self,
        folder: Path,
        space: Sequence[Parameter],
        overrides: Sequence[str],
        *,
        more_is_better: bool,
        warm_up: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._worst = list(space), -math.inf if more_is_better else math.inf
        folder.mkdir(parents=True, exist_ok=True)
        self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=folder.name,
            direction="maximize" if more_is_better else "minimize",
            pruner=MedianPruner(n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=warm_up + 1),
            load_if_exists=True,
        )
        asked: dict[str, Any] = {
            "space": {each.key: str(each) for each in self._space},
            "overrides": list(overrides),
        }
        for key, value in asked.items():
            known = self._study.user_attrs.get(key)
            if known is None:
                self._study.set_user_attr(key, value)
            elif known != value:
                raise ConfigError(
                    f"study={folder.name} has other {'ranges' if key == 'space' else key} ({_words(known)}): "
                    "give the same ones, or another name."
                )

    def __len__(self) -> int:
        """How many trials there are, whatever their state."""
        return len(self._study.get_trials(deepcopy=False))

    def ask(self) -> int:
        """Propose a trial; returns its number. What it is depends on those before it alone, not on this process."""
        seed = np.random.SeedSequence(len(self)).generate_state(1)[0]  # small seeds give values that are alike
        self._study.sampler = TPESampler(seed=int(seed), constant_liar=True)
        return self._study.ask({each.key: each.distribution() for each in self._space}).number

    def running(self) -> list[int]:
        """The numbers of the trials that are not over."""
        return [trial.number for trial in self._study.get_trials(deepcopy=False) if not trial.state.is_finished()]

    def parameters(self, number: int) -> dict[str, str]:
        """The values of a trial by key, as overrides have them."""
        drawn = self._trial(number).params
        return {each.key: each.text(drawn[each.key]) for each in self._space if each.key in drawn}

    def report(self, number: int, curve: Mapping[int, float]) -> bool:
        """Add the values of a trial by epoch; returns whether it should end early."""
        known = self._trial(number).intermediate_values
        of_study = self._storage.get_study_id_from_name(self._study.study_name)
        trial = optuna.trial.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(of_study, number))
        for epoch in sorted(curve.keys() - known.keys()):
            trial.report(self._finite(curve[epoch]), epoch)
        return bool(curve and trial.should_prune())

    def tell(self, number: int, state: str, value: float | None = None) -> None:
        """End a trial. value: what a complete one is judged by."""
        self._study.tell(number, self._finite(value) if state == COMPLETE else None, TOLD[state])

    def state(self, number: int) -> str:
        """The state of a trial, one of `runs.studies.TRIAL_STATES`."""
        return STATES.get(self._trial(number).state, RUNNING)

    def value(self, number: int) -> float | None:
        """What a trial is judged by, of its last epoch where it was pruned; None if there is nothing, or no number."""
        trial = self._trial(number)
        value = trial.value if trial.value is not None else trial.intermediate_values.get(trial.last_step or 0)
        return value if value is not None and math.isfinite(value) else None

    def epochs(self, number: int) -> int:
        """The last epoch of which a value was reported."""
        return self._trial(number).last_step or 0

    def importance(self) -> dict[str, float]:
        """The share of each key in what sets good trials apart (PED-ANOVA); empty where the values do not tell."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = {trial.value for trial in complete if trial.value is not None and math.isfinite(trial.value)}
        if len(values) < 2:
            return {}
        return {key: float(share) for key, share in optuna.importance.get_param_importances(self._study).items()}

    def _trial(self, number: int) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _finite(self, value: float | None) -> float:
        """A value as Optuna can compare it: what is no number counts as worst."""
        return self._worst if value is None or math.isnan(value) else value


def _words(known: Any) -> str:
    return " ".join(f"{key}={text}" for key, text in known.items()) if isinstance(known, dict) else " ".join(known)
