"""Watch a run while it trains: python -m sparse_rnn.watch run=last."""

import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.command_line import parse_keys, start
from sparse_rnn.core.metrics import metric_of
from sparse_rnn.core.wording import one_line, shown_metric
from sparse_rnn.inference.find_run import LAST, find_run
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.rows import Row, gate_densities, read_rows

if TYPE_CHECKING:
    from rich.console import Console, Group

DEFAULTS = {"run": LAST}
SECONDS_BETWEEN_LOOKS = 1.0
OVER = ("finished", "failed", "stopped")
HEIGHT = 12  # lines of a plot
HELP = """\
The curves of a run in the terminal, drawn anew while it trains: what it is judged by, and the density of each gate.

  python -m sparse_rnn.watch [run=last]

run        the id of a run, the beginning of it, or its folder; or last (default): the run that was trained last. The
           word run= may be left out
It ends when the run does, or with Ctrl-C, which leaves the run alone. Off a terminal it prints one picture.
Example:
  python -m sparse_rnn.watch run=rhn-ptb-selfish
"""


def main() -> None:
    """Entry point."""
    words = [word if "=" in word or word.startswith("-") else f"run={word}" for word in sys.argv[1:]]
    start(lambda: watch(**parse_keys(words, DEFAULTS)), lambda: HELP)


def watch(run: str) -> None:
    """Show a run until it is over. Raises ConfigError if there is no such run, or its files are damaged."""
    folder = find_run(run, untrained=True)
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if not console.is_terminal:
        console.print(picture(folder, console))
        return
    with Live(picture(folder, console), console=console, auto_refresh=False) as live:
        while (load_record(folder) or {}).get("status") not in OVER:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            live.update(picture(folder, console), refresh=True)


def picture(folder: RunFolder, console: "Console") -> "Group":
    """The state of a run in one line, and its curves."""
    from rich.console import Group
    from rich.text import Text

    from sparse_rnn.core.terminal_curves import curves

    rows, record = read_rows(folder.metrics), load_record(folder) or {}
    drawn = partial(curves, width=console.width, height=HEIGHT, braille="utf" in console.encoding.lower())
    epochs = [row for row in rows if "valid/loss" in row and "best/valid/loss" not in row]
    plots = [drawn("training loss of the last steps", _recent(rows), unit="step")]
    if epochs:
        metric = metric_of(epochs[-1], "valid/")
        judged = {split: _curve(epochs, f"{split}/{metric.name}") for split in ("train", "valid")}
        plots = [drawn(metric.words, judged)]
    if densities := _densities(epochs):
        plots.append(drawn("density of the gates, over all weights", densities))
    return Group(Text(_line(folder, record, rows, epochs), "bold"), *plots)


def _line(folder: RunFolder, record: Mapping[str, Any], rows: list[Row], epochs: list[Row]) -> str:
    status = record.get("status", "unknown")
    planned = record.get("config", {}).get("training", {}).get("epochs", "?")
    parts = [folder.path.name, status, f"epoch {rows[-1]['epoch'] if rows else 0} of {planned}"]
    if epochs:
        last = epochs[-1]
        parts += [f"valid {shown_metric(last, 'valid')}", f"sparsity {last['sparsity/model']:.4f}"]
        parts += [f"{last['throughput/tokens_per_second']:,.0f} tokens/s"]
    return one_line("  ".join(map(str, parts)))


def _recent(rows: list[Row]) -> dict[str, list[tuple[float, float]]]:
    return {"loss": [(row["step"], row["train/loss_recent"]) for row in rows if "train/loss_recent" in row]}


def _curve(epochs: list[Row], key: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[key]) for row in epochs if row.get(key) is not None]


def _densities(epochs: list[Row]) -> dict[str, list[tuple[float, float]]]:
    """The density of each gate by epoch, as the mean over the weights that have it."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in epochs:
        for gate, values in gate_densities(row).items():
            found.setdefault(gate, []).append((row["epoch"], sum(values) / len(values)))
    return found


if __name__ == "__main__":
    main()
