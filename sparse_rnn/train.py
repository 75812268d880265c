"""Train a run: python -m sparse_rnn.train model=rhn sparsifier=selfish."""

import sys

HELP = """\
Train a sparse recurrent network, or go on with a run that was interrupted.

  python -m sparse_rnn.train [group=name ...] [key=value ...]

{groups}
Often used: sparsifier.sparsity=0.67 sparsifier.scope=gate training.epochs=10 optimizer.lr=20 seed=1 threads=2
device=auto checkpoint.every_minutes=10 checkpoint.keep=best snapshots=true logger=files

  --cfg job          show the whole configuration and stop
  -m, --multirun     one run for every combination, as in sparsifier=set,rigl seed=1,2
  --config-dir DIR   also look for config groups in DIR

The same command goes on with the same run in runs/<run_id>. Data are looked for in $SPARSE_RNN_DATA (data), runs are
written to $SPARSE_RNN_RUNS (runs). HYDRA_FULL_ERROR=1 shows tracebacks.
Examples:
  python -m sparse_rnn.train dataset=pydoc budget=smoke            a few seconds, nothing to download
  python -m sparse_rnn.train model=rhn budget=reduced              Penn Treebank on a CPU, under an hour
  python -m sparse_rnn.train model=rhn sparsifier=rigl optimizer=adam
"""


def main() -> None:
    """Entry point."""
    from sparse_rnn import command_line

    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP.format(groups=command_line.describe_groups()), end="")
        return
    command_line.guard(_hydra_main)


def _hydra_main() -> None:
    import hydra
    from omegaconf import DictConfig

    from sparse_rnn import command_line, config
    from sparse_rnn.registry import ConfigError

    config.register_schemas()
    arguments = config.expand_shorthands(sys.argv[1:])
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))  # hydra wants it first

    failures: list[ConfigError] = []  # Hydra would print a line of its own before the sentence

    @hydra.main(config_path=str(config.CONFIG_DIR), config_name="config", version_base="1.3")
    def run(composed: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        from sparse_rnn.session import train

        try:
            return train(config.check(composed), list(HydraConfig.get().overrides.task))
        except ConfigError as error:
            failures.append(error)
            return None

    run()
    for failure in failures[:-1]:
        command_line.report(str(failure))
    if failures:
        raise failures[-1]


if __name__ == "__main__":
    main()
