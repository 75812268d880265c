"""Train a run: python -m sparse_rnn.train model=rhn sparsifier=selfish."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sparse_rnn.core import command_line
from sparse_rnn.core.conf import config_dir, describe_groups
from sparse_rnn.core.errors import ConfigError, RunFailed

HELP = """\
Train a sparse recurrent network, or go on with a run that was interrupted.

  python -m sparse_rnn.train [group=name ...] [key=value ...]

{groups}
Often used: sparsifier.sparsity=0.67 sparsifier.scope=gate training.epochs=10 optimizer.lr=20 seed=1 threads=2
device=auto checkpoint.every_minutes=10 checkpoint.keep=best snapshots=true logger=files

  --cfg job          show the whole configuration and stop
  -m, --multirun     one run for every combination, as in sparsifier=set,rigl seed=1,2, one after the other;
                     with hydra/launcher=submitit_slurm as SLURM jobs, with submitit_local all at once
  --config-dir DIR   also look for config groups in DIR

The same command goes on with the same run in runs/<run_id>. Data are looked for in $SPARSE_RNN_DATA (data), runs are
written to $SPARSE_RNN_RUNS (runs). HYDRA_FULL_ERROR=1 shows tracebacks.
Exit codes: {exit_codes}.
Examples:
  python -m sparse_rnn.train dataset=pydoc budget=smoke            a few seconds, nothing to download
  python -m sparse_rnn.train model=rhn budget=reduced              Penn Treebank on a CPU, under an hour
  python -m sparse_rnn.train model=rhn sparsifier=rigl optimizer=adam
"""


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP.format(groups=describe_groups(), exit_codes=command_line.EXIT_CODES), end="")
        return
    command_line.guard(_hydra_main)


def _hydra_main() -> None:
    import hydra
    from omegaconf import DictConfig

    from sparse_rnn.config.checks import check
    from sparse_rnn.config.compose import expand_shorthands, register_schemas
    from sparse_rnn.config.launchers import register_launchers

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises instead of printing
    register_schemas()
    register_launchers()
    arguments = expand_shorthands(sys.argv[1:])
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))  # hydra wants it first

    failures: list[ConfigError] = []  # Hydra would print a line of its own before the sentence

    @hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")
    def run(composed: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        from sparse_rnn.training.session import train

        hydra_config = HydraConfig.get()
        try:
            return train(check(composed), list(hydra_config.overrides.task))
        except ConfigError as error:
            if hydra_config.runtime.choices["hydra/launcher"] != "basic":
                raise  # from the process of a job only what is raised comes back
            failures.append(error)
            return None

    with jobs_without_result():
        run()
    failures.sort(key=lambda failure: -failure.exit_code)  # the last one is the command's
    for failure in failures[:-1]:
        command_line.report(str(failure))
    if failures:
        raise failures[-1]


@contextmanager
def jobs_without_result() -> Iterator[None]:
    """What submitit raises for a job that was killed or ended some other way: RunFailed."""
    from submitit.core.utils import FailedSubmissionError, UncompletedJobError

    try:
        yield
    except (UncompletedJobError, FailedSubmissionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunFailed(f"A job came to no result: {lines[0].rstrip('.:')}.") from error


if __name__ == "__main__":
    main()
