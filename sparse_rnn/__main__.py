"""Every command by one name: python -m sparse_rnn COMMAND, or sparse-rnn COMMAND once installed."""

import sys
from importlib import import_module
from importlib.util import find_spec

from sparse_rnn.core.command_line import guard
from sparse_rnn.core.errors import ConfigError, suggest

COMMANDS = {
    "train": "train a run, or resume one",
    "watch": "draw the curves of a run while it trains",
    "evaluate": "evaluate a trained run",
    "describe": "count a configuration's parameters and FLOPs without data",
    "generate": "let a trained language model write",
    "export": "write a trained model as a file, or as a folder to share",
    "extract": "write the smaller dense network that ISS leaves",
    "demo": "train on the embedded corpus for two minutes",
    "doctor": "say what works on this machine, and what to do about the rest",
    "data": "fetch data sets ahead of training",
    "kernels": "compile the sparse kernels ahead of training",
    "launch": "send the runs of tables to a cluster and watch them",
    "results": "make tables, figures and a page from logged runs",
}
PACKAGES = ("data", "launch", "results")


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        lines = (f"  {name:<10}{purpose}\n" for name, purpose in COMMANDS.items())
        shown = f"sparse-rnn COMMAND [arguments]\n\n{''.join(lines)}\nsparse-rnn COMMAND --help says more."
        guard(lambda: print(shown))
        return
    guard(lambda: _require(words[0]))
    sys.argv = [f"{sys.argv[0]} {words[0]}", *words[1:]]  # a command sees what it would see by itself
    guard(lambda: import_module(_module(words[0])))  # which an installation without the extra may lack packages for
    import_module(_module(words[0])).main()


def _require(word: str) -> None:
    """Raise ConfigError unless the word is a command."""
    if word not in COMMANDS:
        raise ConfigError(f"{word} is not a command{suggest(word, COMMANDS)}.")


def _module(command: str) -> str:
    """The module of a command; launch and results lie beside the package in a checkout, inside an installed one."""
    inside = f"{__package__}.{command}"
    home = inside if find_spec(inside) else command
    return f"{home}.__main__" if command in PACKAGES else home


if __name__ == "__main__":
    main()
