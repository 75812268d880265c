"""What is there beside this machine: SLURM, W&B."""

import netrc
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from sparse_rnn.diagnosis.finding import Finding, State, check

SLURM_SECONDS = 20
PUBLIC_SERVER = "https://api.wandb.ai"


@check("SLURM", needed=False, otherwise="launch with cluster=local, or ask who runs the cluster")
def slurm() -> Finding:
    """Whether jobs can be sent to SLURM."""
    if not shutil.which("sbatch"):
        return Finding("no sbatch here, so launch uses this machine (cluster=local)")
    said = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=SLURM_SECONDS)
    if said.returncode:
        return Finding(f"sbatch fails ({said.stderr.strip().partition(chr(10))[0]})", State.NOTE, "use cluster=local")
    job = os.environ.get("SLURM_JOB_ID")
    return Finding(f"{said.stdout.strip()}{f', in job {job}' if job else ''}: launch with cluster=slurm")


@check("W&B", needed=False, otherwise="pip install 'sparse-rnn[experiments]', or use logger=files")
def wandb() -> Finding:
    """How W&B logs, and whether it could log online."""
    login = "a key is there" if _has_key() else "run `wandb login` first"
    text = f"{version('wandb')}, offline; for logger.mode=online, {login}"
    if mode := os.environ.get("WANDB_MODE"):
        return Finding(text, State.NOTE, f"WANDB_MODE={mode} is ignored: set logger.mode, or logger=files for none")
    return Finding(text)


def _has_key() -> bool:
    """Whether W&B has a key here, in the variable or in the file where `wandb login` puts it."""
    server = urlsplit(os.environ.get("WANDB_BASE_URL") or PUBLIC_SERVER).hostname or ""
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    kept = netrc.netrc(file).authenticators(server) if file.is_file() else None
    return bool(os.environ.get("WANDB_API_KEY") or kept)
