"""The trials of a study of `launch tune` as a table, the best first."""

from sparse_rnn.config.differing import short_names
from sparse_rnn.core.metrics import metric_named
from sparse_rnn.runs.studies import Study, Trial, best_trial, ranked

from .grid import Field, Grid, Heading, Section


def grid_of_study(study: Study, command: str) -> Grid:
    """A line for every trial: the complete ones from the best on, then the others by number."""
    names = short_names(study.space)
    best = best_trial(study)
    headings = ("trial", *(names[key] for key in study.space), study.metric.replace("/", " "), "epochs", "state", "run")
    rows = tuple(_row(trial, study, is_best=trial == best) for trial in ranked(study))
    space = " ".join(f"{key}={text}" for key, text in study.space.items())
    return Grid(
        study.name,
        f"Trials of {study.name}",
        "",
        (tuple(map(Heading, headings)),),
        (Section("", rows),),
        (f"Tuned: {space}", *([f"All with: {' '.join(study.overrides)}"] if study.overrides else [])),
        (f"Made by: {command}",),
    )


def _row(trial: Trial, study: Study, *, is_best: bool) -> tuple[Field, ...]:
    metric = metric_named(study.metric)
    known = metric is not None and trial.value is not None
    value = metric.shown(trial.value) if metric is not None and trial.value is not None else "none"
    return (
        Field(str(trial.number)),
        *(Field(str(trial.parameters.get(key, ""))) for key in study.space),
        Field(value, bold=is_best, muted=not known),
        Field(str(trial.epochs)),
        Field(trial.state),
        Field(trial.run_id),
    )
