"""python -m benchmarks.record [ENTRY ...]: time the entries to a validation perplexity of 120 and 110 on Penn Treebank.

Without names, all entries of entries.yaml. The rules are in docs/records.md.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record.clock import measure
from benchmarks.record.entries import arguments, check_rules, load_entries
from benchmarks.record.page import LOGS, PAGE, rewritten
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.core.command_line import guard, one_of, seed_number, warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted

CORES = 2
BUSY = 0.5  # load average of the last minute


def main() -> int:
    """Measure what is asked for, or write the page; returns the exit code."""
    asked = _arguments()
    if asked.page:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), asked.out), encoding="utf-8")
        print(f"written to {PAGE}")
        return 0
    seeds = [seed_number(seed) for seed in asked.seeds.split(",")]
    entries = load_entries()
    names = [one_of("entry", name, entries) for name in asked.entries] or list(entries)
    for name in names:
        check_rules(f"Entry {name}", as_dict(compose_run(arguments(entries[name], seeds[0]))))
    take_two_cores()
    load = load_before()
    for seed in seeds:  # of all entries in turn, so that what changes on the machine meets each of them
        for name in names:
            print(line(measure(name, entries[name], seed, load, asked.out)), flush=True)
    print(f"Logs are in {asked.out}; python -m benchmarks.record --page writes docs/records.md.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help="a name in benchmarks/record/entries.yaml")
    parser.add_argument("--seeds", default="1,2,3", help="as in 1,2,3, the default")
    parser.add_argument("--out", type=Path, default=LOGS, help="the folder of the logs, if not results/logs/records")
    parser.add_argument("--page", action="store_true", help="write the table of docs/records.md and measure nothing")
    return parser.parse_args()


def take_two_cores() -> None:
    """Confine this process, and the runs that it starts, to two cores; raises ConfigError if it may not use two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES:
        raise ConfigError(
            f"A record takes {CORES} CPU cores, and this process may use {counted(len(cores), 'core')}: run it where "
            "more are free."
        )
    os.sched_setaffinity(0, cores[:CORES])


def load_before() -> float:
    """The load average of the last minute, with a warning if other processes are at work."""
    load = os.getloadavg()[0]
    if load > BUSY:
        warn(f"the machine is busy (load average {load:.2f}): wait until it is below {BUSY} for times that count.")
    return load


def line(log: Mapping[str, Any]) -> str:
    """What came out of a run, in one line."""
    times = [f"perplexity {target} {_when(moment)}" for target, moment in log["targets"].items()]
    return f"{log['entry']}, seed {log['seed']}: {', '.join(times)}"


def _when(moment: Mapping[str, Any] | None) -> str:
    return f"after {moment['seconds']:.1f} s (epoch {moment['epoch']})" if moment else "not reached"


if __name__ == "__main__":
    guard(lambda: sys.exit(main()))
