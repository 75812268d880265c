"""What `python -m launch` does: plan, submit, status, cancel, logs."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch import report
from launch.clusters import compose_cluster
from launch.estimate import Left, Throughput, estimate
from launch.job import JobFiles
from launch.plan import Plan, look
from launch.requests import Entry, Request, entries, sent_before
from launch.states import job_log
from launch.submission import call_off, check_data, send, submission_lock
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.tables.catalogue import Catalogue

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 60.0
LEFT = ("missing", "queued", "running", "failed")


def plan(request: Request) -> None:
    """Print every run with its state, and what the unfinished ones need."""
    root = runs_root()
    found = look(_chosen(request, root), root)
    report.console().print(report.lines(found, flops=True), end="")
    print(report.counts(found))
    left = [_left(entry, found) for entry in found.runs(*LEFT)]
    print(estimate([run for run in left if run], Throughput.of(_records(root))))
    _warn(found)


def _chosen(request: Request, root: Path) -> list[Entry]:
    if request.cluster:
        compose_cluster(request.cluster)  # so that a wrong one is refused by whatever command
    return entries(request, Catalogue(root / ".launch"))


def _left(entry: Entry, found: Plan) -> Left | None:
    facts, standing = entry.facts, found.standings[entry.run_id]
    return Left(facts.config, facts.tokens, facts.flops, standing.left) if facts else None


def _records(root: Path) -> Iterator[dict[str, Any]]:
    for path in root.glob("*/record.json"):
        if record := read_record(RunFolder(path.parent)):
            yield record


def _warn(found: Plan) -> None:
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)


def submit(request: Request) -> None:
    """Send the missing runs, with --retry the failed ones too."""
    root, cluster = runs_root(), compose_cluster(request.cluster)
    chosen = _chosen(request, root)
    if "--dry-run" in request.flags:
        _tell(found := look(chosen, root), _to_send(found, request), "would be sent")
        _warn(found)
        return
    with submission_lock(root):
        found = look(chosen, root, strict=True)
        missing = _to_send(found, request)
        check_data(missing)
        where = send(missing, cluster, root) if missing else ""
    _tell(found, missing, f"sent {where}" if missing else "sent")


def _to_send(found: Plan, request: Request) -> list[Entry]:
    return found.runs("missing", *(["failed"] if "--retry" in request.flags else []))


def _tell(found: Plan, sent: list[Entry], verb: str) -> None:
    for entry in sent:
        print(f"  {entry.run_id}  {entry.label}")
    print(f"{report.counts(found)}; {len(sent)} {verb}.")
    for entry in found.runs("stale"):
        print(f"{entry.run_id} is stale: move its folder away, and submit again.")
    failed, again = found.runs("failed"), {entry.run_id for entry in sent}
    if failed and not again.issuperset(entry.run_id for entry in failed):
        print("--retry sends the failed ones again.")


def status(request: Request) -> None:
    """Print what waits, works or needs somebody; with --watch, until nothing waits or works any more."""
    from rich.live import Live

    root = runs_root()
    chosen = _chosen(request, root) if request.names or request.sweep else sent_before(request, root)
    found, console = look(chosen, root), report.console()
    if "--watch" not in request.flags:
        console.print(report.status(found))
        return
    with Live(report.status(found), console=console, auto_refresh=False) as live:
        while found.warning or found.runs("queued", "running"):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            found = look(chosen, root)
            live.update(report.status(found), refresh=True)
    if not console.is_terminal:
        print()


def cancel(request: Request) -> None:
    """Call off what waits or works, once the user has agreed."""
    root = runs_root()
    chosen = _chosen(request, root) if request.names or request.sweep else sent_before(request, root)
    found = look(chosen, root, strict=True)
    live = found.runs("queued", "running")
    if not live:
        print("Nothing waits or works.")
        return
    console = report.console()
    console.print(report.lines(found, flops=False, only=("queued", "running")), end="")
    if "--yes" not in request.flags and not _agreed(f"Cancel {len(live)} run{'s' * (len(live) > 1)}? [y/N] "):
        print("Nothing was cancelled.")
        return
    ended = call_off(live, root)
    print(f"{len(ended)} of {len(live)} cancelled; `submit` goes on with them.")
    for entry in live:
        if entry.run_id not in ended:
            print(f"{entry.run_id} was not sent by `launch`: end it where it works ({_where(entry, found)}).")
    _wait_until_saved(ended, root)


def _where(entry: Entry, found: Plan) -> str:
    return found.standings[entry.run_id].detail


def _wait_until_saved(run_ids: list[str], root: Path) -> None:
    """Runs at work save before they end; until then nobody could send them again."""
    entries, deadline = [Entry(run_id, "", "") for run_id in run_ids], time.monotonic() + SECONDS_TO_SAVE
    while look(entries, root).runs("queued", "running"):
        if time.monotonic() > deadline:
            print("Some of them are still saving; `status` shows which.")
            return
        time.sleep(SECONDS_BETWEEN_LOOKS / 4)


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("cancel asks before it acts: say --yes where nobody can answer.")
    return input(question).strip().lower() in ("y", "yes")


def logs(request: Request) -> None:
    """Print the log of one run."""
    root = runs_root()
    if len(request.names) != 1:
        raise ConfigError("Which run? Give one id, or the beginning of one, as in `logs rhn-ptb-selfish-s1`.")
    name, files = Path(request.names[0]).name, JobFiles(root)
    known = sorted({path.parent.name for kept in (files.log, files.submission) for path in root.glob(f"*/{kept.name}")})
    fitting = [run_id for run_id in known if run_id == name] or [run_id for run_id in known if run_id.startswith(name)]
    if len(fitting) != 1:
        reason = f"fits {len(fitting)} runs" if fitting else "was never sent"
        raise ConfigError(f"{name} {reason}{suggest(name, fitting or known)}.")
    log = job_log(root / fitting[0])
    if log is None:
        raise ConfigError(f"{fitting[0]} has no log yet: it still waits, or was called off before it began.")
    print(log, file=sys.stderr)
    print(log.read_text(encoding="utf-8", errors="replace"), end="")
