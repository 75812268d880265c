"""The `slurm` fixture: a real SLURM cluster on this machine, which `make test-slurm` starts, uses and stops."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from slurm_sweep import Sweep

HERE = Path(__file__).parent
NODES = ("nodea", "nodeb")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slurm: needs the SLURM cluster of tests/cluster (make test-slurm)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = None
    if not os.environ.get("SPARSE_RNN_SLURM_TEST"):
        installed = "" if shutil.which("sbatch") else "sbatch is not installed; "
        reason = f"{installed}`make test-slurm` runs these tests on a SLURM cluster that it starts (in a container)"
    elif "PYTEST_XDIST_WORKER" in os.environ:
        reason = "all tests share one SLURM cluster; run them in one process with `make test-slurm`"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


class Cluster:
    """The test cluster: nodes nodea and nodeb, partitions main (default) and scavenge (preempted by main)."""

    def __init__(self) -> None:
        self.root = Path(os.environ.get("SLURM_TEST_ROOT", "/var/lib/sparse-rnn-slurm"))
        self.environment = {"SLURM_CONF": str(self.root / "etc" / "slurm.conf")}

    def script(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run start_slurm.sh or stop_slurm.sh to its end, whatever its exit status."""
        return subprocess.run(
            ["bash", str(HERE / name), *arguments],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=900,  # an installation included
        )

    def start(self, **variables: str) -> None:
        """Start what is not running; a change of SLURM_TEST_* restarts SLURM's daemons with it."""
        done = self.script("start_slurm.sh", **variables)
        if done.returncode:
            pytest.exit(f"the test cluster did not start: {done.stderr.strip()}", returncode=done.returncode)

    def stop(self) -> None:
        self.script("stop_slurm.sh", "--purge")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints with the cluster's environment; raise with what it complained about if it fails."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Send a line of shell as a batch job and return its id; its output is dropped unless an option keeps it."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", script)

    def queue(self) -> dict[str, str]:
        """The state of each job that is not over; the tasks of an array stand one by one, as 12_3."""
        return dict(line.split(maxsplit=1) for line in self.run("squeue", "-hr", "-o", "%i %T").splitlines())

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows of a job (JobState, Restarts, NodeList...), until 30 s after its end."""
        fields = self.run("scontrol", "-o", "show", "job", job).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def wait_until(self, condition: Callable[[], object], seconds: float, wanted: str) -> float:
        """Wait for a condition and return the seconds it took."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > seconds:
                raise TimeoutError(f"not within {seconds} s: {wanted}; the queue holds {self.queue()}")
            time.sleep(0.2)
        return time.monotonic() - begin

    def wait_until_empty(self, seconds: float) -> float:
        return self.wait_until(lambda: not self.queue(), seconds, "an empty queue")

    def node_state(self, name: str) -> str:
        return self.run("sinfo", "-hN", "-p", "main", "-n", name, "-o", "%T")

    def kill_node(self, name: str) -> None:
        """End slurmd, the job steps and the tasks of a node with SIGKILL, as when a machine loses power."""
        pid_file = self.root / "run" / f"slurmd.{name}.pid"
        daemon = psutil.Process(int(pid_file.read_text()))
        assert daemon.name() == "slurmd", f"{pid_file} names a process that is not a slurmd; run stop_slurm.sh."
        daemon.kill()
        steps_and_tasks = self._job_processes(name)
        for end in (psutil.Process.suspend, psutil.Process.kill):  # none of them may report that another has ended
            for process in steps_and_tasks:
                with suppress(psutil.NoSuchProcess):
                    end(process)
        pid_file.unlink()

    def kill_task(self, job: str) -> None:
        """End all processes of a job's step with SIGKILL, as when memory runs out; the batch script lives."""
        number = self.job(job)["JobId"]
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if ours and environment.get("SLURM_JOB_ID") == number and "SLURM_STEP_ID" in environment:
                    process.kill()

    def revive_node(self, name: str) -> None:
        """Start slurmd again and wait until the controller uses the node."""
        self.run("slurmd", "-N", name)
        self.wait_until(lambda: not self.node_state(name).endswith("*"), 30, f"{name} answers")
        self.run(
            "scontrol", "update", f"nodename={name}", "state=resume", check=False
        )  # refused where it is up already
        self.wait_until(lambda: self.node_state(name) in ("idle", "mixed", "allocated"), 30, f"{name} is up")

    @contextmanager
    def without_accounting(self) -> Iterator[None]:
        """Restart SLURM's daemons as on a cluster without slurmdbd: sacct fails, squeue works. Jobs stay queued."""
        self.start(SLURM_TEST_ACCOUNTING="0")
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def submit_limit(self, jobs: int) -> Iterator[None]:
        """Let sbatch refuse what goes beyond this many jobs in the queue; each task of an array counts."""
        self.run("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={jobs}")
        try:
            yield
        finally:
            self.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")

    def cancel_all(self) -> None:
        """Empty the queue."""
        self.run("scancel", "--user=root")
        self.wait_until_empty(30)

    def _job_processes(self, node: str) -> list[psutil.Process]:
        """The job steps of a node, all below them, and what left them but kept the job's environment."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "slurmstepd":  # its title is "slurmstepd: [12.batch]"
                    job = " ".join(process.cmdline()).partition("[")[2].partition(".")[0]
                    ours = process.cwd() == str(self.root / "log")
                    if ours and list((self.root / "spool" / node).glob(f"{node}_{job}.*")):
                        found |= {process, *process.children(recursive=True)}
                    continue
                environment = process.environ()
                if environment.get("SLURMD_NODENAME") == node and (
                    environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                ):
                    found.add(process)
        return list(found)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster itself, for the session."""
    cluster = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SLURM_TEST_ACCOUNTING", raising=False)
        cluster.stop()  # what a session that was killed left
        try:
            cluster.start()
            for name, value in cluster.environment.items():
                patch.setenv(name, value)
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def slurm(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, for one test: every test finds an empty queue, accounting and both nodes."""
    yield cluster
    cluster.start()
    for name in NODES:
        cluster.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
    cluster.cancel_all()


@pytest.fixture
def sweep(tmp_path: Path, slurm: Cluster) -> Callable[[str, int], Sweep]:
    """Makes a sweep of so many epochs and seeds."""
    return lambda epochs, seeds: Sweep(tmp_path / "runs", epochs, seeds)
