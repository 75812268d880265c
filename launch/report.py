"""What the commands print."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from launch.plan import Plan
from launch.requests import Entry
from launch.states import Standing
from sparse_rnn.core.wording import scientific

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
    return f"{total} run{'s' * (total != 1)}: {listed}" if total else "no runs"


def lines(plan: Plan, *, flops: bool, only: Iterable[str] | None = None) -> Text:
    """A line for every entry under the heading of its block; `only`: the states that are shown."""
    text, heading = Text(), ""
    shown = [e for e in plan.entries if only is None or plan.standings[e.run_id].state in only]
    width = max((len(entry.label) for entry in shown), default=0)
    for entry in shown:
        if entry.block != heading:
            heading = entry.block
            text.append(f"{heading}\n", "bold")
        standing = plan.standings[entry.run_id]
        text.append(f"  {standing.state:<9}", STYLES[standing.state])
        text.append(f"{entry.label:<{width}}  " if width else "")
        text.append(f"{_flops(entry):<9}" if flops else "")
        text.append(entry.run_id)
        text.append(_detail(standing))
        text.append("\n")
    return text


def _flops(entry: Entry) -> str:
    known = entry.facts.flops if entry.facts else None
    return scientific(known)


def _detail(standing: Standing) -> Text:
    if not standing.detail:
        return Text()
    if standing.state == "failed":
        log = f" ({standing.log})" if standing.log else ""
        return Text(f"\n           {standing.detail}{log}", "red")
    return Text(f"  {standing.detail}", "dim")


def status(plan: Plan) -> Text:
    """The runs that wait, work or need somebody, how many there are of each state, and what keeps that incomplete."""
    warning = f"\nwarning: {plan.warning}" if plan.warning else ""
    return Text.assemble(lines(plan, flops=False, only=NOTEWORTHY), counts(plan), warning)


def console() -> Console:
    """Prints lines as they are, however long."""
    return Console(highlight=False, soft_wrap=True)
