"""Findings as tables: a summary of all claims, and each claim with its settings."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparse_rnn.core.wording import counted, ranges

from ..tables.grid import Field, Grid, Heading, Section
from ..tables.render import markdown
from .claims import UNTRIED, Claim, Setting
from .pairs import Pair

HEADINGS = ("setting", "first", "second", "first - second", "95 % interval", "seeds", "verdict")
INTERVAL = (
    "First - second: the mean over the seeds that both have, with the 95 % interval of Student's t, paired over seeds. "
    "A claim that the first is better holds where the whole interval is on the better side of zero, and does not hold "
    "where it is on the other side; with zero inside, it is undecided. A diverged run, or fewer than two seeds, has no "
    "interval."
)


def text(claims: Sequence[Claim], command: Callable[[str], str]) -> str:
    """All claims as Markdown: the summary, then a table for each. command: makes a claim's table; of "", all of it."""
    grids = [summary(claims, command("")), *(claim_table(claim, command(claim.name)) for claim in claims)]
    return "\n".join(map(markdown, grids))


def summary(claims: Sequence[Claim], command: str) -> Grid:
    """One line for each claim with its verdict."""
    rows = tuple(
        (Field(claim.gathered.spec.title), Field(claim.gathered.spec.source), Field(claim.verdict, bold=True))
        for claim in claims
    )
    headings = tuple(map(Heading, ("claim", "source", "verdict")))
    footer = (f"Source: {claims[0].gathered.logs.source}", f"Made by: {command}")
    return Grid("findings", "What the runs say", "", (headings,), (Section("", rows),), (INTERVAL,), footer)


def claim_table(claim: Claim, command: str) -> Grid:
    """A claim with what the runs say in each setting."""
    spec = claim.gathered.spec
    return Grid(
        spec.name,
        spec.title,
        spec.source,
        (tuple(map(Heading, HEADINGS)),),
        (Section("", tuple(_row(setting) for setting in claim.settings)),),
        tuple(note for note in (f"Verdict: {claim.verdict}.", *_margin(claim), spec.remark) if note),
        (f"Runs: {_runs(claim)}", f"Source: {claim.gathered.logs.source}", f"Made by: {command}"),
    )


def _margin(claim: Claim) -> Sequence[str]:
    margin = claim.gathered.spec.margin
    return [f"Holds where the first is worse by less than {claim.settings[0].pair.shown(margin, difference=True)}."] * (
        margin > 0
    )


def _runs(claim: Claim) -> str:
    missing, planned = claim.gathered.missing, {run.run_id for run in claim.gathered.planned}
    absent = f", {len({run.run_id for run in missing})} missing" if missing else ""
    return f"{counted(len(planned), 'run')}{absent}"


def _row(setting: Setting) -> tuple[Field, ...]:
    pair, found = setting.pair, setting.pair.difference
    rows = (_side(pair, name, values) for name, values in zip((pair.a, pair.b), pair.by_seed, strict=True))
    mean = pair.shown(found.mean, difference=True, signed=True) if found else ""
    texts = (pair.block, *rows, mean, pair.interval(found) if found else "", ranges(found.seeds) if found else "")
    verdict = Field(setting.verdict, bold=setting.verdict != UNTRIED, muted=setting.verdict == UNTRIED)
    return (*map(Field, texts), verdict)


def _side(pair: Pair, name: str, values: Mapping[int, Any]) -> str:
    """A row with the mean of its values."""
    if not values:
        return f"{name}: missing"
    spread = f" ± {pair.shown(statistics.stdev(values.values()))}" if len(values) > 1 else ""
    return f"{name}: {pair.shown(statistics.fmean(values.values()))}{spread}"
