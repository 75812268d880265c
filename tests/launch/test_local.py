"""The queue of this machine: real workers, with jobs that wait until a file lets them end."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from launch_helpers import SMALL, id_of, record_of, wait_until

from launch.local import LocalQueue

STAND_IN = """
mkdir -p "$1"
trap 'echo "$1" >> "$1/saved"; while [ ! -e "$1/go" ]; do sleep 0.02; done; exit 143' TERM
echo "$CUDA_VISIBLE_DEVICES $2" >> "$1/started"
basename "$1" >> "$1/../order"
while [ ! -e "$1/go" ]; do sleep 0.02; done
"""


class Jobs:
    """A queue whose jobs are stand-ins, and what they have done."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        script = root / "stand_in.sh"
        script.write_text(STAND_IN)
        self.root, self.queue = root, LocalQueue(root, ["sh", str(script)])

    def add(self, *run_ids: str, runs: int = 1, gpus: tuple[str, ...] = ()) -> None:
        self.queue.add([(run_id, [f"of={run_id}"]) for run_id in run_ids], runs=runs, gpus=gpus)

    def let_go(self, *run_ids: str) -> None:
        for run_id in run_ids:
            (self.root / run_id).mkdir(exist_ok=True)
            (self.root / run_id / "go").touch()

    def lines(self, run_id: str, name: str = "started") -> list[str]:
        path = self.root / run_id / name
        return path.read_text().splitlines() if path.exists() else []

    def order(self) -> list[str]:
        return self.lines(".", "order")

    def processes(self, what: str) -> list[psutil.Process]:
        """Those of this queue: launch.local is the worker, sh a job."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []
            if what in command[:3] and any(str(self.root) in word for word in command):
                found.append(process)
        return [process for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]

    def worker(self) -> psutil.Process:
        (worker,) = wait_until(lambda: self.processes("launch.local"))
        return worker

    def is_over(self) -> bool:
        return not self.processes("launch.local")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A fresh queue, of which no process is left behind."""
    made = Jobs(tmp_path / "runs")
    yield made
    for what in ("launch.local", "sh", "launch.job"):
        for process in made.processes(what):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_in_order_and_so_many_at_a_time(jobs: Jobs) -> None:
    jobs.add("a", "b", "c", "d", runs=2)
    wait_until(lambda: len(jobs.order()) == 2)
    assert jobs.queue.states() == {"a": "running", "b": "running", "c": "queued", "d": "queued"}
    jobs.let_go("b")
    wait_until(lambda: jobs.lines("c"))
    assert jobs.queue.states() == {"a": "running", "c": "running", "d": "queued"}
    jobs.add("e", runs=4)  # the newest number counts
    wait_until(lambda: len(jobs.order()) == 5)
    assert sorted(jobs.order()[:2]) == ["a", "b"]
    assert jobs.order()[2] == "c"
    assert jobs.lines("e") == [f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')} of=e"]
    jobs.let_go("a", "c", "d", "e")
    wait_until(jobs.is_over)
    assert jobs.queue.states() == {}
    assert len(jobs.order()) == 5


def test_added_twice_is_there_once(jobs: Jobs) -> None:
    jobs.add("a", "b", "b")
    wait_until(lambda: jobs.lines("a"))
    jobs.add("a", "b", "c")
    jobs.let_go("a", "b", "c")
    wait_until(jobs.is_over)
    assert jobs.order() == ["a", "b", "c"]
    jobs.add("a")  # it is over, and may be asked for again
    wait_until(jobs.is_over)
    assert jobs.order() == ["a", "b", "c", "a"]


def test_gpus_in_turn(jobs: Jobs) -> None:
    jobs.add("a", "b", "c", runs=2, gpus=("0", "GPU-1"))
    wait_until(lambda: jobs.lines("a") and jobs.lines("b"))
    assert (jobs.lines("a"), jobs.lines("b")) == (["0 of=a"], ["GPU-1 of=b"])
    jobs.let_go("b")
    wait_until(lambda: jobs.lines("c"))
    assert jobs.lines("c") == ["GPU-1 of=c"]


def test_gpus_are_hidden_from_jobs_that_get_none(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    jobs.add("a", gpus=("1",))
    jobs.add("b", "c", runs=4)  # the job before keeps its GPU
    jobs.add("d", "e", runs=5, gpus=("0", "1"))
    wait_until(lambda: all(jobs.lines(name) for name in "abcde"))
    assert [jobs.lines(name) for name in "abcde"] == [["1 of=a"], [" of=b"], [" of=c"], ["0 of=d"], ["0 of=e"]]
    jobs.let_go(*"abcde")
    wait_until(jobs.is_over)


def test_cancel(jobs: Jobs) -> None:
    jobs.add("a", "b", "c")
    wait_until(lambda: jobs.lines("a"))
    assert sorted(jobs.queue.cancel(["a", "b", "elsewhere"])) == ["a", "b"]
    wait_until(lambda: jobs.lines("a", "saved"))
    assert jobs.queue.states() == {"a": "running", "c": "queued"}  # it saves
    assert jobs.queue.cancel(["a"]) == []  # a second SIGTERM would end it unsaved
    jobs.add("a", runs=2)
    wait_until(lambda: jobs.lines("c"))
    assert jobs.queue.states() == {"a": "running", "c": "running"}
    jobs.let_go("a", "c")
    wait_until(jobs.is_over)
    assert jobs.lines("a", "saved") == [str(jobs.root / "a")]
    assert jobs.order() == ["a", "c", "a"]


def test_worker_survives_the_command_that_started_it(jobs: Jobs) -> None:
    code = (
        "import sys; from pathlib import Path; from launch.local import LocalQueue\n"
        "LocalQueue(Path(sys.argv[1]), ['sh', sys.argv[2]]).add([('a', [])], runs=1)"
    )
    command = [sys.executable, "-c", code, str(jobs.root), str(jobs.root / "stand_in.sh")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)  # which waits for its pipes to close
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(lambda: jobs.lines("a"))
    assert os.getsid(jobs.worker().pid) == jobs.worker().pid
    assert jobs.worker().terminal() is None


def test_many_who_add_at_once_start_one_worker(jobs: Jobs) -> None:
    names = [f"run{i}" for i in range(12)]
    barrier = threading.Barrier(len(names))

    def add(name: str) -> None:
        barrier.wait()
        jobs.add(name, runs=20)

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(jobs.order()) == len(names))
    for thread in threads:
        thread.join()
    assert jobs.worker().is_running()
    jobs.let_go(*names)
    wait_until(jobs.is_over)
    assert sorted(jobs.order()) == sorted(names)


def test_what_is_added_while_a_worker_ends_is_not_lost(jobs: Jobs) -> None:
    draw, names = random.Random(0), [f"run{i}" for i in range(12)]
    jobs.let_go(*names)
    for name in names:
        jobs.add(name)
        wait_until(lambda name=name: name in jobs.order())
        deadline = time.monotonic() + draw.random() * 0.4  # the worker ends within two polls
        wait_until(lambda deadline=deadline: time.monotonic() > deadline)
    wait_until(jobs.is_over)
    assert jobs.order() == names
    assert jobs.queue.states() == {}


def test_a_terminated_worker_lets_its_jobs_save_and_forgets_what_waits(jobs: Jobs) -> None:
    jobs.add("a", "b", "c", runs=2)
    wait_until(lambda: jobs.lines("a") and jobs.lines("b"))
    worker = jobs.worker()
    os.killpg(worker.pid, signal.SIGTERM)
    wait_until(lambda: jobs.lines("a", "saved") and jobs.lines("b", "saved"))
    assert jobs.queue.states() == {"a": "running", "b": "running"}
    assert worker.is_running()
    jobs.add("c", "d")  # while it waits for them
    jobs.let_go("a", "b")
    wait_until(lambda: jobs.lines("c"))
    jobs.let_go("c", "d")
    wait_until(jobs.is_over)
    assert jobs.order()[2:] == ["c", "d"]
    for run_id in ("a", "b"):
        assert jobs.lines(run_id, "saved") == [str(jobs.root / run_id)]


def test_jobs_of_a_killed_worker_go_on_and_are_not_started_again(jobs: Jobs) -> None:
    jobs.add("a", "b")
    wait_until(lambda: jobs.lines("a"))
    jobs.worker().kill()
    wait_until(lambda: jobs.queue.states() == {"a": "running"})
    jobs.add("a", "c", "d", runs=2)
    wait_until(lambda: jobs.lines("c"))
    assert jobs.queue.states() == {"a": "running", "c": "running", "d": "queued"}
    assert jobs.queue.cancel(["a"]) == ["a"]
    wait_until(lambda: jobs.lines("a", "saved"))
    jobs.let_go("a", "c", "d")
    wait_until(jobs.is_over)
    assert jobs.order() == ["a", "c", "d"]  # b waited for the worker that was killed: it counts as missing


def test_a_worker_started_by_hand_leaves_the_other_alone(jobs: Jobs) -> None:
    jobs.add("a")
    wait_until(lambda: jobs.lines("a"))
    second = subprocess.run([sys.executable, "-m", "launch.local", str(jobs.root)], timeout=30)
    assert second.returncode == 0
    assert jobs.worker().is_running()


def test_a_job_that_cannot_be_started_is_in_nobodys_way(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    jobs.add("a")
    wait_until(lambda: jobs.lines("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "gone")
        jobs.add("b")
    (tmp_path / "gone").rmdir()
    jobs.add("c")
    jobs.let_go("a", "b", "c")
    wait_until(jobs.is_over)
    assert jobs.order() == ["a", "c"]
    assert "It could not be started" in (jobs.root / "b" / "attempts.json").read_text()


def test_a_damaged_queue_is_an_empty_one(jobs: Jobs) -> None:
    jobs.queue.folder.mkdir(parents=True)
    for text in ("", "{", "[]", '{"of": "another version"}'):
        (jobs.queue.folder / "queue.json").write_text(text)
        assert jobs.queue.states() == {}
    jobs.let_go("a")
    jobs.add("a")
    wait_until(jobs.is_over)
    assert jobs.order() == ["a"]


def test_imports_nothing_heavy() -> None:
    code = "import sys, json, launch.local; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "hydra", "omegaconf", "pandas", "wandb"} & set(json.loads(done.stdout))


@pytest.mark.processes
def test_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    queue = LocalQueue(tmp_path / "runs")
    run_ids = [id_of(*SMALL, f"seed={seed}") for seed in (1, 2)]
    queue.add([(run_id, [*SMALL, f"seed={seed}"]) for seed, run_id in enumerate(run_ids, 1)], runs=2)
    assert set(queue.states()) == set(run_ids)
    wait_until(lambda: not queue.states())
    for run_id in run_ids:
        assert record_of(tmp_path / "runs" / run_id)["status"] == "finished"
