"""Train a run: python -m sparse_rnn.train model=rhn sparsifier=selfish."""

import sys

from sparse_rnn.core.command_line import EXIT_CODES, report, start
from sparse_rnn.core.conf import describe_groups

HELP = """\
Train a sparse recurrent network, or resume a run that was interrupted.

  python -m sparse_rnn.train [group=name ...] [key=value ...]

{groups}
Often used: sparsifier.sparsity=0.67 sparsifier.scope=gate training.epochs=10 optimizer.lr=20 seed=1 threads=2
device=auto checkpoint.every_minutes=10 checkpoint.keep=best snapshots=true 'logger=[wandb,tensorboard]'

  --cfg job          show the whole configuration and stop
  -m, --multirun     one run for every combination, as in sparsifier=set,rigl seed=1,2, one after the other;
                     with hydra/launcher=submitit_slurm as SLURM jobs, with submitit_local all at once. The last
                     lines list the runs, each by what sets it apart from the others, with its result
  --config-dir DIR   also look for config groups in DIR, as in the folders that SPARSE_RNN_CONF names; the variable
                     SPARSE_RNN_PLUGINS names modules of your own, whose components are then known by name

Run the same command again and it resumes the run in runs/<run_id>. Data are read from $SPARSE_RNN_DATA (data), runs are
written to $SPARSE_RNN_RUNS (runs). HYDRA_FULL_ERROR=1 shows tracebacks.
Exit codes: {exit_codes}.
Examples:
  python -m sparse_rnn.train dataset=pydoc budget=smoke            a few seconds, nothing to download
  python -m sparse_rnn.train model=rhn budget=reduced              Penn Treebank on a CPU, under an hour
  python -m sparse_rnn.train model=rhn sparsifier=rigl optimizer=adam
"""


def main() -> None:
    """Entry point."""
    start(_train, lambda: HELP.format(groups=describe_groups(), exit_codes=EXIT_CODES), needs_output=False)


def _train() -> None:
    from sparse_rnn.training.sweep import train_all

    failures = train_all(sys.argv[1:])
    for failure in failures[:-1]:
        report(str(failure))
    if failures:
        raise failures[-1]  # whose exit code is the command's


if __name__ == "__main__":
    main()
