"""The test cluster does what its fixture says; the tests of `launch` rely on it."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
FOREVER = "sleep 600"


def is_running(slurm, job, node=None):
    fields = slurm.job(job)
    return fields["JobState"] == "RUNNING" and node in (None, fields["NodeList"])


def our_processes(slurm):
    """Name and command of the cluster's daemons and of what runs in its jobs."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or a zombie
            command, environment = process.cmdline(), process.environ()
            in_a_job = "SLURMD_NODENAME" in environment and environment.get("SLURM_CONF") == str(
                slurm.root / "etc/slurm.conf"
            )
            if in_a_job or str(slurm.root) in " ".join([process.cwd(), *command]):
                found.append((process.name(), command))
    return found


def test_a_job_runs_and_ends_and_accounting_knows_it(slurm, tmp_path):
    job = slurm.submit("echo $SLURM_JOB_PARTITION on $SLURMD_NODENAME", f"--output={tmp_path}/out", "--nodelist=nodeb")
    slurm.wait_until_empty(30)
    assert (tmp_path / "out").read_text() == "main on nodeb\n"

    def state():
        return slurm.run("sacct", "-nXP", "-o", "State", "-j", job)

    slurm.wait_until(lambda: state() == "COMPLETED", 30, "the end of the job in the accounting")


def test_without_accounting_sacct_fails_and_squeue_works(slurm):
    with slurm.without_accounting():
        with pytest.raises(RuntimeError, match="accounting storage is disabled"):
            slurm.run("sacct")
        job = slurm.submit(FOREVER)
        assert job in slurm.queue()
        slurm.cancel_all()
    slurm.run("sacct")


def test_a_full_queue_refuses_jobs(slurm):
    with slurm.submit_limit(2):
        slurm.submit(FOREVER, "--array=0-1")
        with pytest.raises(RuntimeError, match="AssocMaxSubmitJobLimit"):
            slurm.submit(FOREVER)
    slurm.submit(FOREVER)


def test_the_job_of_a_dead_node_starts_again_on_the_other_one(slurm):
    job = slurm.submit(FOREVER)
    slurm.wait_until(lambda: is_running(slurm, job), 30, "the job runs")
    node = slurm.job(job)["NodeList"]
    other = "nodeb" if node == "nodea" else "nodea"
    slurm.kill_node(node)
    died = time.monotonic()
    assert ["slurmd", "-N", node] not in [command for _, command in our_processes(slurm)]
    slurm.wait_until(lambda: not is_running(slurm, job), 60, "the controller notices")
    noticed = time.monotonic() - died
    slurm.wait_until(lambda: is_running(slurm, job, other), 60, "the job runs on the other node")
    print(f"noticed after {noticed:.1f} s, runs again after {time.monotonic() - died:.1f} s")
    assert slurm.job(job)["Restarts"] == "1"
    slurm.revive_node(node)
    slurm.submit(FOREVER, f"--nodelist={node}")
    slurm.wait_until(lambda: set(slurm.queue().values()) == {"RUNNING"}, 30, "both jobs run")


def test_a_job_of_the_main_partition_sends_those_of_scavenge_back_to_the_queue(slurm, tmp_path):
    asked = "trap 'echo told' TERM; echo begun; while :; do sleep 0.2; done"
    low = slurm.submit(
        f'srun bash -c "{asked}"', "--partition=scavenge", "--nodes=2", "--exclusive", f"--output={tmp_path}/out"
    )
    slurm.wait_until(lambda: is_running(slurm, low), 30, "the job in scavenge runs")
    high = slurm.submit("sleep 1", "--nodes=2", "--exclusive")
    took = slurm.wait_until(lambda: is_running(slurm, high), 60, "the job in main runs")
    assert slurm.job(low)["JobState"] == "PENDING"
    slurm.wait_until(lambda: is_running(slurm, low), 60, "the job in scavenge runs again")
    print(f"preempted within {took:.1f} s", (tmp_path / "out").read_text(), sep="\n")
    assert slurm.job(low)["Restarts"] == "1"


@pytest.mark.parametrize("overrule", [False, True])
def test_it_refuses_a_machine_with_a_cluster_of_its_own(cluster, tmp_path, overrule):
    theirs = tmp_path / "slurm.conf"
    theirs.write_text("ClusterName=production\n")
    variables = {"SLURM_CONF": str(theirs), "SPARSE_RNN_SLURM_TEST": "anyway" if overrule else "1"}
    done = cluster.script("start_slurm.sh", **variables)
    if overrule:
        assert done.returncode == 0
    else:
        assert done.returncode == 3
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "SPARSE_RNN_SLURM_TEST=anyway" in done.stderr
    assert theirs.read_text() == "ClusterName=production\n"


def test_it_does_not_take_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "thesis").touch()
    environment = {**os.environ, "SLURM_TEST_ROOT": str(tmp_path), "SPARSE_RNN_SLURM_TEST": "anyway"}
    done = subprocess.run(["bash", str(HERE / "start_slurm.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert str(tmp_path) in done.stderr
    subprocess.run(["bash", str(HERE / "stop_slurm.sh"), "--purge"], env=environment, check=True)
    assert (tmp_path / "thesis").exists()


def test_stop_leaves_no_process_even_when_the_controller_is_dead(slurm):
    job = slurm.submit(FOREVER)
    slurm.wait_until(lambda: is_running(slurm, job), 30, "the job runs")
    everything = {"munged", "mariadbd", "slurmctld", "slurmd", "slurmstepd", "sleep"}
    slurm.wait_until(lambda: everything <= {name for name, _ in our_processes(slurm)}, 30, "the job's command runs")
    psutil.Process(int((slurm.root / "run" / "slurmctld.pid").read_text())).kill()
    assert slurm.script("stop_slurm.sh").returncode == 0
    assert our_processes(slurm) == []
    slurm.start()  # with the state that the stop has kept
