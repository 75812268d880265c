"""What works on this machine: python -m sparse_rnn.doctor."""

import platform
import sys
from collections.abc import Callable

import sparse_rnn
from sparse_rnn.core.command_line import parse_keys, start
from sparse_rnn.core.wording import counted, one_line
from sparse_rnn.diagnosis.finding import Finding, State

HELP = """\
Say what works on this machine: packages, device, compiler, kernels, folders, data, SLURM and W&B.

  python -m sparse_rnn.doctor

Each line begins with ok, note (the commands work without it) or FAIL (they need it), and the line below says what to
do. Exit codes: 0 if what is needed works, 1 otherwise.
"""
STYLES = {State.OK: "green", State.NOTE: "yellow", State.FAILED: "bold red"}


def main() -> None:
    """Entry point."""
    start(_examine, lambda: HELP)


def _examine() -> None:
    parse_keys(sys.argv[1:], {})
    from sparse_rnn.diagnosis.examination import examine

    show = _printer()
    system = f"{platform.system()} {platform.machine()}"
    print(f"sparse-rnn {sparse_rnn.__version__}, Python {platform.python_version()}, {system}", flush=True)
    failed = 0
    for finding in examine():
        show(finding)
        failed += finding.state is State.FAILED
    if not failed:
        print("Everything that the commands need works.")
        return
    print(f"Not everything that the commands need works: see {counted(failed, 'line')} with FAIL.")
    sys.stdout.flush()
    sys.exit(1)


def _printer() -> Callable[[Finding], None]:
    """What prints a finding: coloured on a terminal, if rich is there, which a broken installation may lack."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except Exception:
        return _print_plain
    console = Console(highlight=False)
    if not console.is_terminal:
        return _print_plain

    def show(finding: Finding) -> None:
        mark, name, text, advice = _words(finding)
        grid = Table.grid()
        for width in (len(mark), len(name), None):
            grid.add_column(width=width)
        grid.add_row(Text(mark, STYLES[finding.state]), name, Text(text))
        if advice:
            grid.add_row("", "", Text(advice, "dim"))
        console.print(grid)

    return show


def _print_plain(finding: Finding) -> None:
    mark, name, text, advice = _words(finding)
    print(f"{mark}{name}{text}", *([" " * len(mark + name) + advice] if advice else []), sep="\n", flush=True)


def _words(finding: Finding) -> tuple[str, str, str, str]:
    """The mark and the name, as wide as they are shown, what was found, and what to do; each in one line."""
    advice = f"-> {one_line(finding.advice)}" if finding.advice else ""
    return f"{finding.state:<5}", f"{finding.name:<15}", one_line(finding.text), advice


if __name__ == "__main__":
    main()
