"""The papers' tables and figures out of the logs: python -m results table table2."""

from sparse_rnn.core.command_line import run_command

HELP = """\
Tables, figures and a page of results, made from what the runs logged.

  python -m {results} table  NAME ... [key=value ...]    to the terminal, or to files
                           --format md (default), csv, latex, html; --out FILE or FOLDER (md, csv and tex of each)
  python -m {results} figure NAME ... [key=value ...]    PNG, SVG and CSV in --out FOLDER (results/output/figures)
  python -m {results} compare A B    [key=value ...]     two sets of overrides, paired over seeds, with a 95 % interval
  python -m {results} findings [NAME ...]                what our runs say about the papers' claims; a forest plot in
                           --out FOLDER
  python -m {results} tuning [STUDY ...]                 the trials of studies of `launch tune`, below $SPARSE_RNN_RUNS;
                           with a picture of each in --out FOLDER
  python -m {results} refresh PAGE ...                   replace what stands between <!-- python -m results ... --> and
                           <!-- end --> in Markdown files by what that command prints now
  python -m {results} site   [key=value ...]             one HTML page of everything: --out FILE (results/site.html)
  python -m {results} fetch  ENTITY/PROJECT              copy an online W&B project to --out FOLDER
  python -m {results} sync   ENTITY/PROJECT              upload offline runs to W&B, each row exactly once

NAME         {tables},
             {figures},
             the path of a file of your own, as in my/table.yaml, or all
--sweep '..' instead of a name, or beside it: a table or figure of every combination of key=a,b,c, as in `launch`;
             a figure is drawn over a number that is swept, or over epochs: --x KEY or --x epoch chooses
seeds=1,2    instead of the table's own seeds
any other key=value or group=name as in `launch`: results of the runs that it submits with them
--bold       what a table has in bold: mean (default), the best mean of each block; significant, with it all that the
             seeds cannot tell from it
--metric     what is compared: test/perplexity or test/accuracy (default), valid/perplexity, active_parameters, ...
--source     where the logs are: runs (default: offline W&B runs below $SPARSE_RNN_RUNS), FOLDER, records,
             records:FOLDER, wandb://entity/project, mirror:FOLDER
--allow-missing   accept an incomplete table (otherwise exit code 3)
--config-dir DIR  also look for tables, figures and config groups in DIR, as in the folders of SPARSE_RNN_CONF

Examples:
  python -m {results} table table2
  python -m {results} table table3 budget=reduced seeds=1 --allow-missing
  python -m {results} table table2 --source wandb://my-lab/sparse_rnn --format latex --out table2.tex
  python -m {results} figure figure5 budget=reduced --out figures
  python -m {results} compare 'sparsifier=selfish' 'sparsifier=rigl' model=stacked_lstm dataset=ptb budget=reduced
  python -m {results} table --sweep 'sparsifier=set,rigl sparsifier.sparsity=0.5,0.67 seed=range(1,4)' budget=reduced
"""


def main() -> None:
    """Run the command line in sys.argv."""
    run_command(_help, f"{__package__}.requests", f"{__package__}.commands")


def _help() -> str:
    from .names import figures, tables

    return HELP.format(results=__package__, tables=", ".join(tables()), figures=", ".join(figures()))


if __name__ == "__main__":
    main()
