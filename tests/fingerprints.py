"""What the commands compute, as one file of values: a redesign that changes no behaviour leaves every value as it was.

  python tests/fingerprints.py OUT.json [--compare OLD.json]

It trains small runs of every model, method, optimizer and backend on the embedded data, makes tables and figures out
of them, and keeps what came out. It knows the commands only, not the modules: started in the folder of another checkout
it runs the code of that one. On one machine, with one interpreter, all values are the same each time; with --compare
every difference is printed, and any ends with exit code 1.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Values = dict[str, Any]

AT_A_TIME, PATIENCE = 2, 600  # processes, and seconds for one
SMALL = "budget=smoke threads=1"
MODELS = "model=stacked_lstm,rhn,on_lstm,awd_lstm_mos"
TOPICS = "model=lstm_classifier dataset=pydoc_topics"
FREE = "recipe=none training.epochs=4 optimizer.lr=0.5 sparsifier.removal_rate=0.5 sparsifier.sparsity=0.6"

# Of each the folder of runs that it has for itself, and what `train -m` sweeps over; logs are files alone.
SWEEPS = {
    "methods": "sparsifier=dense,dsr,gmp,iss,rigl,selfish,set,snfs,st_rnn,static_er,static_uniform",
    "rhn": "model=rhn optimizer=adam sparsifier=dsr,gmp,rigl,selfish,set,snfs,st_rnn,static_er,static_uniform",
    "on_lstm": "model=on_lstm optimizer=momentum_sgd,nt_asgd sparsifier=dense,rigl,snfs",
    "mos": "model=awd_lstm_mos optimizer=snt_asgd,adam,momentum_sgd sparsifier=set,dsr",
    "classifier": f"{TOPICS} sparsifier=dense,dsr,gmp,rigl,selfish,set,snfs,st_rnn,static_er",
    "sgd": f"optimizer=sgd {FREE} sparsifier=rigl,set,static_uniform",
    "scopes": "optimizer=momentum_sgd growth=random,gradient,momentum sparsifier.scope=gate,tensor,cell",
    "pruning": "model=stacked_lstm,rhn sparsifier=gmp growth=none sparsifier.update_interval=3",
    "redistribution": "model=rhn sparsifier.scope=tensor,cell sparsifier.redistribution="
    "none,gate_magnitude,gate_gradient,layers_nonzeros,layers_momentum",
    "steps": "sparsifier=rigl,set sparsifier.update_interval=4,7 sparsifier.schedule=constant,linear",
    "initial": "sparsifier=st_rnn sparsifier.initial=uniform,er,er_gates sparsifier.update_until=0.5,1",
    "windows": "model=stacked_lstm,rhn optimizer=adam,nt_asgd training.variable_bptt=true training.max_bptt=12 "
    "training.sub_batch=2 snapshots=true",
    "official_code": "protocol=official_code model=stacked_lstm,rhn optimizer=adam,nt_asgd sparsifier=rigl,set,snfs",
    "recipes": "recipe=st_rnn_lstm,st_rnn_rhn,iss_stacked_lstm,iss_rhn,rigl_original",
    "seeds": "seed=2 init_seed=1,2 checkpoint.keep=last",
    "masked": f"sparsifier.backend=masked {MODELS} sparsifier=selfish,rigl",
    "sparse": f"sparsifier.backend=sparse {MODELS} sparsifier=selfish,rigl",
    "sparse_adam": f"sparsifier.backend=sparse {MODELS} optimizer=adam sparsifier=set,snfs",
    "sparse_methods": "sparsifier.backend=sparse optimizer=momentum_sgd sparsifier=dsr,gmp,rigl,snfs,st_rnn,static_er",
    "sparse_classifier": f"sparsifier.backend=sparse {TOPICS} sparsifier=selfish,rigl,st_rnn",
    "undisturbed": "model=rhn sparsifier=rigl training.epochs=60",
}

# Runs of the tables below, in one folder, with W&B's offline logs; `launch submit` sends those of SUBMITTED.
ABLATION = "sparsifier=selfish optimizer=snt_asgd"
SNAPSHOTS = f"protocol=official_code {ABLATION} sparsifier.removal_rate=0.1 snapshots=true growth=random,gradient"
OF_TABLES = (
    "protocol=official_code model=stacked_lstm,rhn sparsifier=selfish optimizer=snt_asgd,nt_asgd",
    "model=on_lstm,awd_lstm_mos sparsifier=selfish optimizer=snt_asgd,nt_asgd",
    f"protocol=official_code model=stacked_lstm,rhn {ABLATION} sparsifier.scope=gate sparsifier.redistribution=none",
    f"model=on_lstm,awd_lstm_mos {ABLATION} sparsifier.scope=gate sparsifier.redistribution=none",
    f"{SNAPSHOTS} seed=1,2 init_seed=1",
    f"{TOPICS} sparsifier=dense",
    f"{TOPICS} sparsifier=st_rnn sparsifier.epsilon=2,10",
)
SUBMITTED = ("table6", "st_table3")

# What `results` makes out of them; what needs no run, and all tables without one, at the papers' size.
FILLED = {
    "tables": "table table5 table6 st_table3 dataset=pydoc budget=smoke seeds=1",
    "classification": "table st_table4 st_table6 dataset=pydoc_topics budget=smoke seeds=1",
    "figures": "figure figure3 figure10 dataset=pydoc budget=smoke seeds=1",
    "distances": "figure figure4 figure9 dataset=pydoc budget=smoke",
}
UNFILLED = {"all_tables": "table all --allow-missing", "drawings": "figure figure1 figure2"}
DESCRIBED = (
    "model=stacked_lstm",
    "model=rhn sparsifier=rigl protocol=official_code",
    "model=on_lstm sparsifier=st_rnn dataset=pydoc budget=smoke",
    "model=awd_lstm_mos sparsifier=snfs optimizer=adam",
    f"{TOPICS} sparsifier=st_rnn sparsifier.epsilon=10",
)
EVALUATED = (
    ("recipes", "rhn-pydoc-iss-*", "valid"),
    ("sparse", "on_lstm-pydoc-rigl-*", "test"),
    ("classifier", "lstm_classifier-pydoc_topics-st_rnn-*", "test"),
)

OF_ONE_TIME = ("environment", "started", "finished", "seconds", "tokens_per_second")  # keys of a record
NOT_COMPUTED = ("throughput/", "clock/")  # keys of a logged row
PASSING_LINES = re.compile(r"^(%\s*)?(Commit|Newest run|Source): ")


class Workplace:
    """A temporary folder, and commands of the checkout in the current folder that write into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, runs: str, command: str) -> subprocess.Popen[str]:
        """`python -m command` on one thread, with its runs in that folder."""
        own = {"SPARSE_RNN_RUNS": str(self.folder / runs), "SPARSE_RNN_DATA": str(self.folder / "data")}
        environment = {**os.environ, **own, "OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", "WANDB_MODE": "offline"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-m", *command.split()], env=environment, encoding="utf-8", **pipes)

    def call(self, runs: str, command: str) -> tuple[int, str, str]:
        """The exit code of `python -m command`, what it printed and its notes; an error is shown at once."""
        process = self.start(runs, command)
        output, notes = process.communicate(timeout=PATIENCE)
        if process.returncode:
            print(f"python -m {command}\nexit code {process.returncode}: {notes[-2000:]}", file=sys.stderr)
        return process.returncode, output, notes

    def lasting(self, text: str) -> list[str]:
        """Lines of a text without those that name a commit, a day or this folder."""
        return [x for x in text.splitlines() if not PASSING_LINES.match(x) and str(self.folder) not in x]


def sha256(content: str | bytes) -> str:
    """Of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def flat(node: Any, prefix: str) -> Values:
    """The leaves of nested mappings, by their paths."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    return {key: leaf for name, child in node.items() for key, leaf in flat(child, f"{prefix}/{name}").items()}


def sweep(place: Workplace, runs: str, overrides: str, logger: str) -> Values:
    """Train what `overrides` sweep over, in one process."""
    dataset = "" if "dataset=" in overrides else "dataset=pydoc"
    command = f"sparse_rnn.train -m {overrides} {dataset} {SMALL} logger={logger}"
    return {f"exit/{runs}/{overrides}": place.call(runs, command)[0]}


def interrupted(place: Workplace) -> Values:
    """A run that SIGTERM stops in its midst and that goes on: its digest does not depend on where."""
    command = f"sparse_rnn.train {SWEEPS['undisturbed']} dataset=pydoc {SMALL} logger=files"
    process = place.start("interrupted", command)
    while process.poll() is None and not any(place.folder.glob("interrupted/*/metrics.jsonl")):
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    return {"exit/interrupted": process.returncode, "exit/resumed": place.call("interrupted", command)[0]}


def runs_of(root: Path) -> Values:
    """All that the runs of a folder are and came to."""
    values: Values = {f"runs/{root.name}": sorted(path.parent.name for path in root.glob("*/record.json"))}
    for path in sorted(root.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = f"runs/{root.name}/{path.parent.name}"
        values |= flat({key: value for key, value in record.items() if key not in OF_ONE_TIME}, name)
        if root.name != "interrupted":  # where the stop shows in losses between epochs, though not in the digest
            values[f"{name}/metrics.jsonl"] = metrics(path.with_name("metrics.jsonl"))
        for stored in sorted(path.parent.rglob("*.safetensors")):
            values[f"{name}/{stored.relative_to(path.parent)}"] = tensors(stored)
    return values


def metrics(path: Path) -> str:
    """SHA-256 of the logged rows, but for what the clock says."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    computed = [{key: value for key, value in row.items() if not key.startswith(NOT_COMPUTED)} for row in rows]
    return sha256("\n".join(json.dumps(row, sort_keys=True) for row in computed))


def tensors(path: Path) -> str:
    """SHA-256 of a safetensors file, whose header has its keys in any order."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True)
    return sha256(header.encode() + content[start:])


def made(place: Workplace, runs: str, name: str, command: str, source: str) -> Values:
    """SHA-256 of every file that `results` makes, and what it says."""
    folder = place.folder / "made" / name / source
    code, _, notes = place.call(runs, f"results {command} --source {source} --out {folder}")
    values = flat({"exit": code, "notes": place.lasting(notes)}, f"made/{name}/{source}")
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        if path.suffix in (".csv", ".md", ".tex"):
            lines = place.lasting(path.read_text(encoding="utf-8"))
            values[f"made/{name}/{source}/{path.name}"] = sha256("\n".join(lines))
    return values


def printed(place: Workplace, runs: str, name: str, command: str) -> Values:
    """The lines that a command prints, one value each."""
    code, output, _ = place.call(runs, command)
    lines = {f"{number:04}": line.rstrip() for number, line in enumerate(place.lasting(output), 1)}
    return flat({"exit": code, **lines}, name)


def described(place: Workplace, overrides: str) -> Values:
    """Every weight of a configuration, and its FLOPs."""
    code, output, _ = place.call("none", f"sparse_rnn.describe {overrides} format=json")
    found = json.loads(output or "{}")
    found["weights"] = {weight["name"]: weight for weight in found.get("weights", ())}
    return flat({"exit": code, **found}, f"describe/{overrides}")


def evaluated(place: Workplace, runs: str, pattern: str, split: str) -> Values:
    """What `evaluate` says of the first run that fits."""
    run = min((path.name for path in (place.folder / runs).glob(pattern)), default=pattern)
    return printed(place, runs, f"evaluate/{runs}/{run}/{split}", f"sparse_rnn.evaluate run={run} split={split}")


def submitted(place: Workplace) -> Values:
    """Send the runs of small tables and wait; the plan shows their results."""
    names, more = " ".join(SUBMITTED), "dataset=pydoc budget=smoke seeds=1"
    sent, *_ = place.call("tables", f"launch submit {names} {more} threads=1 cluster.runs={AT_A_TIME}")
    waited, *_ = place.call("tables", f"launch status {names} {more} --watch")
    exits = {"exit/submit": sent, "exit/status": waited}
    return exits | printed(place, "tables", "plan", f"launch plan {names} {more}")


def all_at_work(jobs: Iterable[tuple[Any, ...]]) -> Values:
    """What jobs (function, arguments) return, a few of them at work at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return {k: v for future in [pool.submit(*job) for job in jobs] for k, v in future.result().items()}


def fingerprints(place: Workplace) -> Values:
    """Everything: first the runs, then what is made of them."""
    jobs: list[tuple[Any, ...]] = [(interrupted, place)]
    jobs += [(sweep, place, name, overrides, "files") for name, overrides in SWEEPS.items()]
    jobs += [(sweep, place, "tables", overrides, "wandb") for overrides in OF_TABLES]
    values = all_at_work(jobs) | submitted(place)
    for name in ("interrupted", "tables", *SWEEPS):
        values |= runs_of(place.folder / name)
    jobs = [(printed, place, "none", "plan_all", "launch plan all budget=smoke seeds=1")]
    jobs += [(made, place, "none", name, command, "runs") for name, command in UNFILLED.items()]
    jobs += [(made, place, "tables", *each, source) for each in FILLED.items() for source in ("runs", "records")]
    jobs += [(described, place, overrides) for overrides in DESCRIBED]
    jobs += [(evaluated, place, *each) for each in EVALUATED]
    return values | all_at_work(jobs)


def compare(old: Values, new: Values) -> int:
    """Print every difference; the exit code."""
    keys = sorted(old.keys() | new.keys())
    before, after = ([json.dumps(each.get(key, "(nothing)")) for key in keys] for each in (old, new))
    changed = [each for each in zip(keys, before, after, strict=True) if each[1] != each[2]]
    for change in changed:
        print("{}\n  old {}\n  new {}".format(*change))
    print(f"{len(keys) - len(changed)} of {len(keys)} values agree.")
    return 1 if changed else 0


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--compare", type=Path, help="an earlier one")
    asked = parser.parse_args()
    old = json.loads(asked.compare.read_text(encoding="utf-8")) if asked.compare else None
    subprocess.run(
        [sys.executable, "-c", "import sparse_rnn; print('of', sparse_rnn.__file__, flush=True)"], check=True
    )
    with tempfile.TemporaryDirectory(prefix="fingerprints") as folder:
        values = fingerprints(Workplace(Path(folder)))
    asked.out.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    runs = sum(len(value) for key, value in values.items() if key.startswith("runs/") and key.count("/") == 1)
    print(f"{runs} runs, {len(values)} values, {os.times().children_user:.0f} s of a core: {asked.out}")
    return 0 if old is None else compare(old, values)


if __name__ == "__main__":
    sys.exit(main())
