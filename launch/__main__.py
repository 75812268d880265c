"""Send the runs of tables to a cluster and watch them: python -m launch plan table2."""

from sparse_rnn.core.command_line import run_command

HELP = """\
Runs of tables and figures, or of a sweep: which are missing, and how to get them to a cluster.

  python -m {package} plan   TABLE ... [key=value ...]     every run with its state and FLOPs, and the hours left
  python -m {package} submit TABLE ... [key=value ...]     send the missing runs, and return at once
                          --retry: failed runs as well; --dry-run: only print which
  python -m {package} status [TABLE ...] [--watch]         what is queued, running or failed; without names, of all
                          runs that were sent
  python -m {package} cancel [TABLE ...] [--yes]           cancel what is queued or running
  python -m {package} logs   RUN                           the log of a run: its id, the beginning of it, or last
  python -m {package} tune   'KEY=RANGE ...' [trials=20] [key=value ...]
                          search the ranges with Optuna, until the study has that many trials; ends poor runs early.
                          If it is stopped or killed, the same command goes on with the study. study=NAME names it

TABLE        {tables},
             the path of a file of your own, as in my/table.yaml, or all
--sweep '..' instead of a table, or beside it: every combination of key=a,b,c or key=range(1,4), in Hydra's grammar
RANGE        log(1,40), uniform(.3,.9), int(1,3) or choice(set,rigl)
seeds=1,2    instead of those of the table
cluster=...  local (this machine), slurm, or a file of your own in cluster/; cluster.KEY=VALUE sets one of its keys
--config-dir DIR  also look for tables, figures, clusters and config groups in DIR, as in the folders of SPARSE_RNN_CONF
any other key=value or group=name goes to every run, as in budget=smoke dataset=pydoc

Runs are looked for, and written, in $SPARSE_RNN_RUNS (runs). A run that was stopped or killed resumes where it was.
Examples:
  python -m {package} plan table2
  python -m {package} submit table2 table3 budget=reduced cluster.runs=2
  python -m {package} submit table2 cluster=slurm cluster.partition=gpu cluster.gpus=1 cluster.time=600
  python -m {package} submit --sweep 'sparsifier=set,rigl sparsifier.sparsity=0.5,0.67 seed=range(1,4)' budget=reduced
  python -m {package} tune 'optimizer.lr=log(1,40) sparsifier.removal_rate=uniform(.3,.9)' trials=40 budget=reduced
"""


def main() -> None:
    """Entry point."""
    run_command(_help, f"{__package__}.requests", f"{__package__}.commands")


def _help() -> str:
    from sparse_rnn.tables.declaration import names

    return HELP.format(package=__package__, tables=", ".join(names()))


if __name__ == "__main__":
    main()
