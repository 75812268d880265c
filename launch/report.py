"""What the commands print."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from sparse_rnn.core.metrics import metric_named
from sparse_rnn.core.wording import counted, one_line, scientific
from sparse_rnn.runs.studies import Study, best_trial

from .plan import Plan
from .requests import Entry
from .states import RunStatus

STYLES = {
    "missing": "dim",
    "queued": "cyan",
    "running": "bold blue",
    "failed": "bold red",
    "finished": "green",
    "stale": "yellow",
}
NOTEWORTHY = ("queued", "running", "failed", "stale")


def counts(plan: Plan) -> str:
    """How many runs there are in each state."""
    found = plan.counts()
    total = sum(found.values())
    listed = ", ".join(f"{number} {state}" for state, number in found.items())
    return f"{counted(total, 'run')}: {listed}" if total else "no runs"


def lines(plan: Plan, *, flops: bool, only: Iterable[str] | None = None) -> Text:
    """One line for every entry, under the heading of its block; `only`: the states that are shown."""
    text, heading = Text(), ""
    shown = [e for e in plan.entries if only is None or plan.statuses[e.run_id].state in only]
    width = max((len(one_line(entry.label)) for entry in shown), default=0)
    for entry in shown:
        if entry.block != heading:
            heading = entry.block
            text.append(f"{one_line(heading)}\n", "bold")
        status = plan.statuses[entry.run_id]
        text.append(f"  {status.state:<9}", STYLES[status.state])
        text.append(f"{one_line(entry.label):<{width}}  " if width else "")
        text.append(f"{_flops(entry):<9}" if flops else "")
        text.append(one_line(entry.run_id))
        text.append(_detail(status))
        text.append("\n")
    return text


def _flops(entry: Entry) -> str:
    known = entry.facts.flops if entry.facts else None
    return scientific(known)


def _detail(status: RunStatus) -> Text:
    if not status.detail:
        return Text()
    if status.state == "failed":
        log = f" ({status.log})" if status.log else ""
        return Text(f"\n           {one_line(status.detail + log)}", "red")
    return Text(f"  {one_line(status.detail)}", "dim")


def noteworthy(plan: Plan) -> Text:
    """The runs that are queued, running, failed or stale, the number in each state, and the plan's warning."""
    warning = f"\nwarning: {one_line(plan.warning)}" if plan.warning else ""
    return Text.assemble(lines(plan, flops=False, only=NOTEWORTHY), counts(plan), warning)


def of_study(study: Study) -> Iterator[str]:
    """How many trials of a study ended how, and the command that trains the best one again."""
    found = Counter(trial.state for trial in study.trials)
    states = ", ".join(f"{number} {state}" for state, number in found.items())
    yield f"{study.name}: {counted(len(study.trials), 'trial')}, {states}"
    if (best := best_trial(study)) is None:
        return
    metric = metric_named(study.metric)
    shown = metric.shown(best.value) if metric and best.value is not None else ""
    yield f"Best: trial {best.number}, {study.metric.replace('/', ' ')} {shown} ({best.run_id})"
    own = [f"{key}={value}" for key, value in best.parameters.items()]
    yield f"  python -m sparse_rnn.train {shlex.join([*study.overrides, *own])}"


def console() -> Console:
    """A console that prints lines as they are, however long."""
    return Console(highlight=False, soft_wrap=True)
