"""Send the runs of tables to a cluster and watch them: python -m launch plan table2."""

import sys

HELP = """\
Runs of tables and figures, or of a sweep: what is missing, and on the way to a cluster.

  python -m launch plan   TABLE ... [key=value ...]     every run and its state, FLOPs, hours that are left
  python -m launch submit TABLE ... [key=value ...]     send what is missing, and return at once
                          --retry: failed ones as well; --dry-run: only say which
  python -m launch status [TABLE ...] [--watch]         what waits, works or failed; without names, of all that was sent
  python -m launch cancel [TABLE ...] [--yes]           call off what waits or works
  python -m launch logs   RUN                           the log of a run, given by its id or the beginning of it

TABLE        {tables},
             a file of your own in conf/table or conf/figure, or all
--sweep '..' instead of a table, or beside it: every combination of key=a,b,c or key=range(1,4), in Hydra's grammar
seeds=1,2    instead of those of the table
cluster=...  local (this machine), slurm, or a file of your own in conf/cluster; cluster.KEY=VALUE sets one of its keys
any other key=value or group=name goes to every run, as in budget=smoke dataset=pydoc

Runs are looked for, and written, in $SPARSE_RNN_RUNS (runs). A run that was stopped or killed goes on where it was.
Examples:
  python -m launch plan table2
  python -m launch submit table2 table3 budget=reduced cluster.runs=2
  python -m launch submit table2 cluster=slurm cluster.partition=gpu cluster.gpus=1 cluster.time=600
  python -m launch submit --sweep 'sparsifier=set,rigl sparsifier.sparsity=0.5,0.67 seed=range(1,4)' budget=reduced
"""


def main() -> None:
    """Entry point."""
    from sparse_rnn.core import command_line

    command_line.run_command(sys.argv[1:], _help, "launch.requests", "launch.commands")


def _help() -> str:
    from sparse_rnn.tables.declaration import names

    return HELP.format(tables=", ".join(names()))


if __name__ == "__main__":
    main()
