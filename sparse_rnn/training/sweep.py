"""The trainings that a Hydra command line asks for: one, or with -m one for each combination of values."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from sparse_rnn.config.checks import check
from sparse_rnn.config.compose import expand_shorthands, register_schemas
from sparse_rnn.config.launchers import register_launchers
from sparse_rnn.config.sweep_size import refuse_too_many
from sparse_rnn.core.command_line import say
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.hydra_errors import OF_COMPOSITION, explain
from sparse_rnn.core.hydra_files import searched
from sparse_rnn.runs.folder import refuse_for_slurm, runs_root
from sparse_rnn.training.multirun import closing_lines, named, points, wrong_run
from sparse_rnn.training.session import train


def train_all(arguments: Sequence[str]) -> list[ConfigError]:
    """Train what the arguments of a command line ask for; returns the errors of single runs, the gravest last.

    Raises what Hydra raises for a configuration that cannot be composed, ConfigError for one that makes no sense.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises instead of printing
    register_schemas()
    register_launchers()
    # Hydra takes no arguments but those of the process, and wants -m before the overrides.
    given = [*expand_shorthands(arguments), *searched()]
    ordered = sorted(given, key=lambda argument: argument not in ("-m", "--multirun"))
    overrides = _check_arguments(ordered)
    sys.argv[1:] = ordered
    failures: list[ConfigError] = []
    own: list[Exception] = []
    begun: list[list[str]] = []

    @hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")
    def run(composed: DictConfig) -> float | None:
        hydra_config, checked = HydraConfig.get(), None
        begun.append(asked := list(hydra_config.overrides.task))
        one_of_many = hydra_config.mode == RunMode.MULTIRUN
        try:
            checked = check(composed)
            return train(checked, asked)
        except ConfigError as error:
            failure = named(error, asked, checked) if one_of_many else error
            # In a submitit job only what is raised comes back to the command. In this process a raised error would
            # end the sweep, and Hydra would print a line of its own before the sentence.
            if hydra_config.runtime.choices["hydra/launcher"] != "basic":
                raise failure from error
            failures.append(failure)
            return None
        except Exception as error:
            if one_of_many:
                error.add_note(f"In the run with {' '.join(asked)}.")
            own.append(error)
            raise

    with _listed_at_the_end(overrides, begun), jobs_without_result(), composition_explained(own):
        run()
    return sorted(failures, key=lambda failure: -failure.exit_code)


@contextmanager
def _listed_at_the_end(overrides: Sequence[str], begun: Sequence[Sequence[str]]) -> Iterator[None]:
    """List the runs of a multirun with their results, once they were trained; else name the run that is wrong.

    overrides: of a multirun, with all values; begun: of each run that this process has trained. Those of other
    processes, as submitit's, are found by the overrides.
    """
    several = points(overrides)
    elsewhere = any(override.startswith("hydra/launcher=") for override in overrides)

    def say_all() -> None:
        for line in closing_lines(begun or (several if elsewhere else [])) if overrides else ():
            say(line)

    try:
        yield
    except (HydraException, OmegaConfBaseException, ConfigError) as error:
        if not begun and (wrong := wrong_run(error, several)):
            raise wrong from error
        say_all()
        raise
    say_all()


def _check_arguments(arguments: Sequence[str]) -> list[str]:
    """The overrides of a multirun; none for a single run.

    Raises ConfigError for options that Hydra does not know, and for a sweep over more runs than a command takes.
    """
    with redirect_stderr(StringIO()) as said:
        try:
            given = get_args_parser().parse_args(arguments)
        except SystemExit as end:
            if not end.code:
                raise
            reason = said.getvalue().strip().rpartition("error: ")[2]
            raise ConfigError(f"These arguments cannot be read ({reason}): --help shows what there is.") from None
    overrides: list[str] = given.overrides if given.multirun else []
    refuse_too_many(overrides)
    if "hydra/launcher=submitit_slurm" in arguments:
        refuse_for_slurm(runs_root())
    return overrides


@contextmanager
def composition_explained(own: Sequence[Exception]) -> Iterator[None]:
    """Turn what Hydra raises of Python's own errors into ConfigError, but for those of a run, which are in `own`."""
    try:
        yield
    except (ConfigError, HydraException):
        raise
    except (*OF_COMPOSITION, TypeError, OSError) as error:
        if error in own:
            raise
        raise ConfigError(explain(error)) from error


@contextmanager
def jobs_without_result() -> Iterator[None]:
    """Turn what submitit raises for a job that was killed, or ended without a result, into RunFailed."""
    try:
        yield
    except (UncompletedJobError, FailedSubmissionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunFailed(f"A job came to no result: {lines[0].rstrip('.:')}.") from error
