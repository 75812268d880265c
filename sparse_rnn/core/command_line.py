"""What the commands share: help that is quick, errors in one sentence, exit codes."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from sparse_rnn.core.errors import ConfigError, suggest

EXIT_CODES = "0 finished, 1 failed, 2 wrong usage, 3 another process works on the run, 128 + n stopped by signal n"
USAGE_ERROR = 2  # other errors bring theirs along, see registry.py
INTERRUPTED = 130


def split_keys(arguments: Sequence[str], defaults: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """A command's own key=value pairs, over their defaults, and the other arguments."""
    own, others = dict(defaults), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in defaults:
            own[key] = value
        else:
            others.append(argument)
    return own, others


def parse_keys(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """A command line of key=value pairs only; raises ConfigError for anything else."""
    own, others = split_keys(arguments, defaults)
    for argument in others:
        raise ConfigError(
            f"{argument} is not understood: write key=value{suggest(argument.partition('=')[0], defaults)}."
        )
    return own


def whole_number(key: str, text: str, least: int = 1) -> int:
    """A number of at least `least`; raises ConfigError."""
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{key}={text} must be a whole number of at least {least}.")
    return int(text)


def set_threads(text: str) -> None:
    """Let torch use so many threads, or as many as it would if none are given; raises ConfigError."""
    import torch

    if text:
        torch.set_num_threads(whole_number("threads", text))


def check_weights(weights: str) -> None:
    """Raise ConfigError if the weights asked for are none that a run may have."""
    if weights not in ("best", "averaged", "raw"):
        raise ConfigError(f"weights={weights} must be best, averaged or raw.")


def output_file(out: str, default: Path) -> Path:
    """The file that `out` names, `default` if it is empty; raises ConfigError where none can be written."""
    if out and not Path(out).parent.is_dir():
        raise ConfigError(f"out={out} cannot be written: its folder does not exist.")
    if out and Path(out).is_dir():
        raise ConfigError(f"out={out} is a folder: name a file.")
    return Path(out) if out else default


def guard(command: Callable[[], None]) -> None:
    """Run a command; what the user can mend is one sentence on stderr and exit code 2, not a traceback.

    HYDRA_FULL_ERROR=1 brings tracebacks back.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ConfigError, HydraException, OmegaConfBaseException, OSError) as error:
        if full:
            raise
        fail(_sentence(error), getattr(error, "exit_code", USAGE_ERROR))


def run_command(arguments: Sequence[str], describe: Callable[[], str], parser: str, commands: str) -> None:
    """A command line whose first word names what to do: help without one, else a function of the module `commands`.

    parser: a module with `parse(command, arguments)`, which makes what the function is given, and FLAGS by command.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(describe(), end="")
        return
    guard(lambda: _run(parser, commands, *arguments))


def _run(parser: str, commands: str, command: str, *arguments: str) -> None:
    parsing = import_module(parser)
    if command not in parsing.FLAGS:
        raise ConfigError(f"{command} is not a command{suggest(command, parsing.FLAGS)}.")
    request = parsing.parse(command, arguments)
    getattr(import_module(commands), command)(request)


def _sentence(error: Exception) -> str:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from sparse_rnn.core.hydra_errors import explain

    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be used ({error.strerror or error})."
    return str(error)


def fail(sentence: str, code: int) -> None:
    """Print a sentence on stderr and exit."""
    report(sentence)
    sys.exit(code)


def report(sentence: str) -> None:
    """Print an error's sentence on stderr."""
    print(f"error: {sentence}", file=sys.stderr)
