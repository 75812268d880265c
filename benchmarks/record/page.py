"""The table of docs/records.md, made of the committed logs."""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record.clock import TARGETS, first_reached
from benchmarks.record.entries import arguments, check_rules
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.rows import read_rows

ROOT = Path(__file__).parent.parent.parent
LOGS = ROOT / "results" / "logs" / "records"
PAGE = ROOT / "docs" / "records.md"
MARKED = re.compile(r"(<!-- records -->\n).*?(<!-- end of records -->)", re.DOTALL)
LEAST_SEEDS = 3
NOTHING = "No entry has been measured yet.\n"
HEAD = (
    f"| entry | active weights | sparsity | seeds | {' | '.join(f'seconds to {target}' for target in TARGETS)} "
    "| machine | commit | logs |\n|---|---|---|---|---|---|---|---|---|\n"
)

Log = Mapping[str, Any]


def rewritten(page: str, logs: Path) -> str:
    """The text of the page with the table of these logs between its two markers. Raises ConfigError."""
    return MARKED.sub(lambda found: found[1] + table(logs) + found[2], page)


def table(logs: Path) -> str:
    """The table, the fastest to the first target on top, and the command of every entry. Raises ConfigError."""
    entries = sorted(read_logs(logs).values(), key=_mean_to_first)
    if not entries:
        return NOTHING
    commands = (f"# {runs[0]['entry']}\n{_command(runs[0])}\n" for runs in entries)
    return HEAD + "".join(_row(runs, logs) for runs in entries) + f"\n```bash\n{''.join(commands)}```\n"


def read_logs(folder: Path) -> dict[str, list[Log]]:
    """What time.json says of every run, by entry. Raises ConfigError for logs that break the rules."""
    entries: dict[str, list[Log]] = {}
    for path in sorted(folder.glob("*/*/time.json")):
        log = json.loads(path.read_text(encoding="utf-8"))
        _check_run(RunFolder(path.parent), log)
        entries.setdefault(log["entry"], []).append(log)
    for name, runs in entries.items():
        _check_entry(folder / name, runs)
    return entries


def _check_run(run: RunFolder, log: Log) -> None:
    """Raise ConfigError unless the log beside a time shows it, and keeps the rules."""
    check_rules(f"{run.path}", (load_record(run) or {}).get("config", {}))
    rows = read_rows(run.metrics)
    for target, moment in log["targets"].items():
        row = first_reached(rows, float(target))
        if (row and row["epoch"]) != (moment and moment["epoch"]):
            raise ConfigError(f"{run.path} has a time.json that is not of its metrics.jsonl: measure the run again.")


def _check_entry(folder: Path, runs: Sequence[Log]) -> None:
    if len(runs) < LEAST_SEEDS:
        raise ConfigError(f"{folder} has {counted(len(runs), 'seed')}, and the rules ask for {LEAST_SEEDS}.")
    for key in ("overrides", "device_name"):
        if any(run[key] != runs[0][key] for run in runs):
            raise ConfigError(f"{folder} has runs that differ in {key}: keep those of one measurement.")


def _row(runs: Sequence[Log], logs: Path) -> str:
    name = runs[0]["entry"]
    cells = [
        name,
        f"{max(run['active_parameters'] for run in runs):,}",
        f"{min(run['sparsity'] for run in runs):.4f}",
        ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs)),
        *(_time([run["targets"][str(target)] for run in runs]) for target in TARGETS),
        runs[0]["device_name"],
        ", ".join(sorted({_commit(run) for run in runs})),
        f"[{name}]({os.path.relpath(logs / name, PAGE.parent)})",
    ]
    return f"| {' | '.join(cells)} |\n"


def _time(moments: Sequence[Log | None]) -> str:
    """Mean, and from the best to the worst seed, in seconds."""
    seconds = [moment["seconds"] for moment in moments if moment]
    if len(seconds) < len(moments):
        return f"not reached by {len(moments) - len(seconds)} of {counted(len(moments), 'seed')}"
    return f"{sum(seconds) / len(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"


def _mean_to_first(runs: Sequence[Log]) -> float:
    moments = [run["targets"][str(TARGETS[0])] for run in runs]
    return sum(moment["seconds"] if moment else float("inf") for moment in moments) / len(moments)


def _commit(run: Log) -> str:
    return f"{(run['commit'] or 'unknown')[:7]}{' with changes' if run['modified'] else ''}"


def _command(run: Log) -> str:
    return shlex.join(["python", "-m", "sparse_rnn.train", *arguments(run["overrides"], run["seed"])])
