"""What `python -m launch` does: plan, submit, status, cancel, logs, tune."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.live import Live

from sparse_rnn.config.stored import check_config
from sparse_rnn.core.command_line import say, warn
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.reading import read_bytes
from sparse_rnn.core.wording import counted, lines_of, one_line
from sparse_rnn.inference.find_run import LAST, meant
from sparse_rnn.runs.folder import RunFolder, read_record, refuse_for_slurm, runs_root
from sparse_rnn.tables.catalogue import Catalogue

from . import report
from .clusters import SlurmCluster, compose_cluster
from .estimate import Throughput, UnfinishedRun, estimate
from .job import JobFiles
from .plan import Plan, make_plan
from .requests import Entry, Request, entries, sent_before
from .search_space import parse_space
from .states import job_log
from .submission import cancel_runs, check_data, send, submission_lock

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 60.0
RESULTS = f"{(__package__ or '').removesuffix('launch')}results"
UNFINISHED = ("missing", "queued", "running", "failed")


def plan(request: Request) -> None:
    """Print every run with its state, and what the unfinished ones need."""
    root = runs_root()
    found = make_plan(_chosen(request, root), root)
    report.console().print(report.lines(found, flops=True), end="")
    print(report.counts(found))
    unfinished = [_unfinished(entry, found) for entry in found.runs(*UNFINISHED)]
    print(estimate([run for run in unfinished if run], Throughput.of(_records(root))))
    _warn(found)


def _chosen(request: Request, root: Path) -> list[Entry]:
    """The runs that a request names; raises ConfigError, also for a wrong cluster, whatever the command."""
    if request.cluster and isinstance(compose_cluster(request.cluster), SlurmCluster):
        refuse_for_slurm(root)
    return entries(request, Catalogue(root / ".launch"))


def _unfinished(entry: Entry, found: Plan) -> UnfinishedRun | None:
    """What an estimate needs of a run; None if nothing is known of it but its id."""
    facts, status = entry.facts, found.statuses[entry.run_id]
    return UnfinishedRun(facts.config, facts.tokens, facts.flops, status.remaining) if facts else None


def _records(root: Path) -> Iterator[dict[str, Any]]:
    for path in root.glob("*/record.json"):
        record = read_record(RunFolder(path.parent))
        try:
            if record:
                check_config(record["config"])
                yield record
        except ConfigError as error:
            warn(f"{path.parent} is stale: {error}")


def _warn(found: Plan) -> None:
    if found.warning:
        warn(found.warning)


def submit(request: Request) -> None:
    """Send the missing runs, with --retry the failed ones as well."""
    root, cluster = runs_root(), compose_cluster(request.cluster)
    chosen = _chosen(request, root)
    if "--dry-run" in request.flags:
        _print_sent(found := make_plan(chosen, root), _to_send(found, request), "would be sent")
        _warn(found)
        return
    with submission_lock(root):
        found = make_plan(chosen, root, strict=True)
        missing = _to_send(found, request)
        check_data(missing)
        where = send(missing, cluster, root) if missing else ""
    _print_sent(found, missing, f"sent {where}" if missing else "sent")


def _to_send(found: Plan, request: Request) -> list[Entry]:
    return found.runs("missing", *(["failed"] if "--retry" in request.flags else []))


def _print_sent(found: Plan, sent: list[Entry], verb: str) -> None:
    heading = ""
    for entry in sent:
        if len({other.block for other in sent}) > 1 and entry.block != heading:
            say(heading := entry.block)
        say(f"  {entry.run_id}  {entry.label}")
    say(f"{report.counts(found)}; {len(sent)} {verb}.")
    for entry in found.runs("stale"):
        why = found.statuses[entry.run_id].detail
        say(f"{entry.run_id} is stale, {why}: move that folder away, and submit again.")
    failed, again = found.runs("failed"), {entry.run_id for entry in sent}
    if failed and not again.issuperset(entry.run_id for entry in failed):
        print("--retry sends the failed ones again.")


def status(request: Request) -> None:
    """Print what is queued, running, failed or stale; with --watch, until nothing is queued or running any more."""
    root = runs_root()
    chosen = _chosen(request, root) if request.names or request.sweep else sent_before(request, root)
    found, console = make_plan(chosen, root), report.console()
    if "--watch" not in request.flags:
        console.print(report.noteworthy(found))
        return
    # Off a terminal Live would print only the last state, cut at 80 columns.
    live = Live(report.noteworthy(found), console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext():
        while found.warning or found.runs("queued", "running"):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            found = make_plan(chosen, root)
            if live:
                live.update(report.noteworthy(found), refresh=True)
    if not live:
        console.print(report.noteworthy(found))


def cancel(request: Request) -> None:
    """Cancel what is queued or running, once the user has agreed."""
    root = runs_root()
    chosen = _chosen(request, root) if request.names or request.sweep else sent_before(request, root)
    found = make_plan(chosen, root, strict=True)
    live = found.runs("queued", "running")
    if not live:
        print("Nothing is queued or running.")
        return
    console = report.console()
    console.print(report.lines(found, flops=False, only=("queued", "running")), end="")
    if "--yes" not in request.flags and not _agreed(f"Cancel {counted(len(live), 'run')}? [y/N] "):
        print("Nothing was cancelled.")
        return
    ended = cancel_runs(live, root)
    print(f"{len(ended)} of {len(live)} cancelled; `submit` resumes {'it' if len(ended) == 1 else 'them'}.")
    for entry in live:
        if entry.run_id not in ended:
            where = found.statuses[entry.run_id].detail
            say(f"{entry.run_id} was not sent by `launch`: end it where it runs ({where}).")
    _wait_until_saved(ended, root)


def _wait_until_saved(run_ids: list[str], root: Path) -> None:
    """Wait for running runs to save and end: before that they count as running, and `submit` would not send them."""
    entries, deadline = [Entry(run_id, "", "") for run_id in run_ids], time.monotonic() + SECONDS_TO_SAVE
    while make_plan(entries, root).runs("queued", "running"):
        if time.monotonic() > deadline:
            print("Some of them are still saving; `status` shows which.")
            return
        time.sleep(SECONDS_BETWEEN_LOOKS / 4)


def _agreed(question: str) -> bool:
    """The user's answer; raises ConfigError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError("cancel asks before it acts: give --yes where there is no terminal.")
    return input(question).strip().lower() in ("y", "yes")


def logs(request: Request) -> None:
    """Print the log of one run."""
    root = runs_root()
    if len(request.names) != 1:
        raise ConfigError("Which run? Give one id, or the beginning of one, as in `logs rhn-ptb-selfish-s1`.")
    name, files = Path(request.names[0]).name, JobFiles(root)
    if not name:
        raise ConfigError(f"Which run? {request.names[0]!r} names none: give an id, or the beginning of one.")
    known = {path.parent.name for kept in (files.log, files.submission) for path in root.glob(f"*/{kept.name}")}
    if name != LAST and not any(run_id.startswith(name) for run_id in known):
        raise ConfigError(f"{name} was never sent{suggest(name, known)}.")
    run_id = meant(name, known, root, name)
    log = job_log(root / run_id)
    if log is None:
        raise ConfigError(f"{run_id} has no log yet: it is still queued, or was cancelled before it started.")
    text = lines_of(read_bytes(log).decode(errors="replace"))
    print(one_line(str(log)), file=sys.stderr)
    print(text, end="")


def tune(request: Request) -> None:
    """Search a space: send the runs that Optuna proposes until the study has as many trials as are asked for."""
    if not request.space:
        raise ConfigError("What is tuned? Give keys with their ranges, as in tune 'optimizer.lr=log(1,40)'.")
    if request.names or request.seeds:
        what = request.names[0] if request.names else "seeds"
        raise ConfigError(f"tune does not take {what}: it has keys with ranges, trials, study, and overrides (seed=2).")
    root, cluster = runs_root(), compose_cluster(request.cluster)
    if isinstance(cluster, SlurmCluster):
        refuse_for_slurm(root)
    from .tuning import Tuner  # imports Optuna and torch

    tuner = Tuner(request, parse_space(request.space), cluster, root)
    try:
        tuner.tune()
    except KeyboardInterrupt:
        print("Stopped; the runs that were sent go on. The same command goes on with the study.", file=sys.stderr)
        raise
    for line in report.of_study(tuner.study()):
        say(line)
    print(f"Drawn, and as a table: python -m {RESULTS} tuning {tuner.folder.name}")
