"""What the commands share: arguments as key=value, errors in one sentence, exit codes. Imports nothing heavy."""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from sparse_rnn.core.bounds import LARGEST, LARGEST_SEED, MOST_THREADS, is_whole
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.extras import missing_extra
from sparse_rnn.core.output import OutputLost, lost_output, safe_output
from sparse_rnn.core.own_places import keep_places
from sparse_rnn.core.wording import counted, one_line

EXIT_CODES = (
    "0 finished, 1 failed, 2 wrong usage, 3 another process works on the run, 4 the device was lost,\n"
    "128 + n stopped by signal n"
)
USAGE_ERROR = 2  # ConfigError and its subclasses carry their own exit code
INTERRUPTED = 130
OUTPUT_LOST = 1
HYDRA_ERRORS = {"HydraException", "OmegaConfBaseException"}
WARNINGS_SHOWN = 5  # of those that are alike

_warned: set[str] = set()  # in this command


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


def whole_number(key: str, text: str, least: int = 1, most: int = LARGEST) -> int:
    """A number from `least` to `most`; raises ConfigError."""
    if not is_whole(text) or int(text) < least:
        raise ConfigError(f"{key}={text} must be a whole number of at least {least}.")
    if int(text) > most:
        raise ConfigError(f"{key}={text} must be at most {most:,}.")
    return int(text)


def optional_number(key: str, text: str, most: int = LARGEST) -> int | None:
    """A number from 1 to `most`, None if the text is empty; raises ConfigError."""
    return whole_number(key, text, most=most) if text else None


def optional_threads(text: str) -> int | None:
    """A number of threads, None if the text is empty; raises ConfigError."""
    return optional_number("threads", text, MOST_THREADS)


def seed_number(text: str) -> int:
    """A seed; raises ConfigError."""
    return whole_number("seed", text, 0, LARGEST_SEED)


def one_of(key: str, value: str, known: Collection[str]) -> str:
    """The value, if it is one of those known; raises ConfigError naming near matches."""
    if value not in known:
        raise ConfigError(f"{key}={value} does not exist{suggest(value, known)}.")
    return value


def check_weights(weights: str) -> None:
    """Raise ConfigError unless `weights` names weights that a run may have."""
    if weights not in ("best", "averaged", "raw"):
        raise ConfigError(f"weights={weights} must be best, averaged or raw.")


def output_file(out: str, default: Path) -> Path:
    """The file that `out` names, `default` if it is empty; raises ConfigError where none can be written."""
    if out and not Path(out).parent.is_dir():
        raise ConfigError(f"out={out} cannot be written: its folder does not exist.")
    if out and Path(out).is_dir():
        raise ConfigError(f"out={out} is a folder: name a file.")
    if out and os.path.lexists(out) and (Path(out).is_symlink() or not Path(out).is_file()):
        raise ConfigError(f"out={out} is no plain file: name another.")
    return Path(out) if out else default


def output_folder(out: str, default: Path) -> Path:
    """The folder that `out` names, `default` if it is empty; raises ConfigError where there can be none."""
    if out and not Path(out).absolute().parent.is_dir():
        raise ConfigError(f"out={out} cannot be made: the folder that it is to lie in does not exist.")
    if out and os.path.lexists(out) and not Path(out).is_dir():
        raise ConfigError(f"out={out} is no folder: name another.")
    return Path(out) if out else default


def start(command: Callable[[], object], help_text: Callable[[], str], *, needs_output: bool = True) -> None:
    """Print the help if the command line has -h or --help, else run the command; see `guard`.

    The folders of --config-dir are taken out of the command line first, see `keep_places`.
    """
    wants_help = bool({"-h", "--help"} & set(sys.argv[1:]))

    def run() -> None:
        sys.argv[1:] = keep_places(sys.argv[1:])
        if wants_help:
            print(help_text(), end="")
        else:
            command()

    guard(run, needs_output=needs_output or wants_help)


def guard(command: Callable[[], object], *, needs_output: bool = True) -> None:
    """Run a command. What the user can fix is one sentence on stderr and an exit code, not a traceback.

    needs_output: whether a stdout that cannot be written ends the command with exit code 1; otherwise it goes on.
    HYDRA_FULL_ERROR=1 brings tracebacks back; it is read before the command, which may set it for Hydra.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    _warned.clear()
    with safe_output(required=needs_output):
        try:
            command()
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except OutputLost as lost:
            if not lost.reader_has_gone:  # as it has in `| head`
                report(f"stdout cannot be written ({lost}).")
            sys.exit(OUTPUT_LOST)
        except Exception as raised:
            error = _failure_of_device(raised) or raised
            sentence = None if full else _sentence(error)
            if sentence is None:
                raise
            fail(sentence, getattr(error, "exit_code", USAGE_ERROR))
        missed = lost_output()
        if missed and not missed.reader_has_gone:
            print(f"warning: stdout could not be written ({missed}).", file=sys.stderr)


def run_command(describe: Callable[[], str], parser: str, commands: str) -> None:
    """Run the subcommand that the command line names, a function of the module `commands`; without one, print help.

    parser: a module with `parse(command, arguments)`, which makes what the function is given, and FLAGS by command.
    Both are imported only once they are needed.
    """
    start(lambda: _run(parser, commands, sys.argv[1:]) if sys.argv[1:] else print(describe(), end=""), describe)


def _run(parser: str, commands: str, words: Sequence[str]) -> None:
    command, *arguments = words
    parsing = import_module(parser)
    if command not in parsing.FLAGS:
        raise ConfigError(f"{command} is not a command{suggest(command, parsing.FLAGS)}.")
    request = parsing.parse(command, arguments)
    getattr(import_module(commands), command)(request)


def _failure_of_device(error: Exception) -> Exception | None:
    """A failure that says so, for an error of torch that means too little memory or a lost GPU."""
    if "torch" not in sys.modules:  # then nothing was computed
        return None
    from sparse_rnn.core.device import device_failure

    return device_failure(error)


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for an error that is a defect of ours and keeps its traceback."""
    # By name: a command that has not imported Hydra cannot raise its errors, and need not wait for it here. Before
    # OSError, which one of them is as well.
    if HYDRA_ERRORS & {base.__name__ for base in type(error).__mro__}:
        from sparse_rnn.core.hydra_errors import explain

        return explain(error)
    if isinstance(error, ConfigError):
        return str(error)
    if missing := missing_extra(error):
        return missing
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be used ({error.strerror or error})."
    return None


def fail(sentence: str, code: int) -> None:
    """Print a sentence on stderr and exit."""
    report(sentence)
    sys.exit(code)


def report(sentence: str) -> None:
    """Print an error's sentence on stderr."""
    print(f"error: {one_line(sentence)}", file=sys.stderr)


def warn(sentence: str) -> None:
    """Print a warning on stderr, the same one once in a command, however often a damaged file is read."""
    if sentence not in _warned:
        _warned.add(sentence)
        print(f"warning: {one_line(sentence)}", file=sys.stderr)


def warn_of(problems: Collection[str]) -> None:
    """Print the first of several warnings that are alike, and how many there are besides."""
    once = list(dict.fromkeys(problems))
    for problem in once[:WARNINGS_SHOWN]:
        warn(problem)
    if len(once) > WARNINGS_SHOWN:
        warn(f"and {counted(len(once) - WARNINGS_SHOWN, 'more problem')} like these")


def say(sentence: str) -> None:
    """Print a result in one line on stdout."""
    print(one_line(sentence))
