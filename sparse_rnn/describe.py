"""Describe a configuration: python -m sparse_rnn.describe model=rhn."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from sparse_rnn.core.command_line import one_of, split_keys, start
from sparse_rnn.core.conf import describe_groups
from sparse_rnn.core.wording import scientific

FORMATS = ("table", "json")
HELP = """\
Every weight of a configuration with its gates, shape, sparsity and active count, and the FLOPs of the run. Data are
read only where their sizes are not published (text, labelled_text, pydoc, pydoc_topics).

  python -m sparse_rnn.describe [group=name ...] [key=value ...] [format=table|json]

{groups}
Examples:
  python -m sparse_rnn.describe model=stacked_lstm sparsifier=selfish sparsifier.sparsity=0.67 format=json
  python -m sparse_rnn.describe model=rhn sparsifier=rigl
"""


def main() -> None:
    """Entry point."""
    start(lambda: _describe(sys.argv[1:]), lambda: HELP.format(groups=describe_groups()))


def _describe(arguments: list[str]) -> None:
    own, overrides = split_keys(arguments, {"format": FORMATS[0]})
    one_of("format", own["format"], FORMATS)
    from sparse_rnn.runs.description import describe

    facts = describe(overrides)
    if own["format"] == "json":
        print(json.dumps(facts, indent=1))
    else:
        _print_table(facts)


def _print_table(facts: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("weight", "shape", "gates (rows)"):
        table.add_column(column, no_wrap=True)
    for column in ("sparsity", "active"):
        table.add_column(column, justify="right")
    for weight in facts["weights"]:
        gates = "  ".join(f"{gate} {start}-{stop - 1}" for gate, (start, stop) in weight["gates"].items())
        sparsity = f"{weight['sparsity']:.4f}" if weight["sparse"] else "dense"
        table.add_row(weight["name"], " x ".join(map(str, weight["shape"])), gates, sparsity, f"{weight['active']:,}")
    console = Console(highlight=False)
    # Where the output is piped, rich assumes 80 columns and would cut the names of weights.
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), table).maximum)
    console.print(table)
    print(
        f"{facts['run_id']}: {facts['active_parameters']:,} of {facts['parameters']:,} parameters active, "
        f"sparsity {facts['sparsity']:.4f} of the sparse weights"
    )
    print(
        f"FLOPs: {scientific(facts['flops_train'])} to train ({facts['flops_train_ratio']:.3f} of the dense model's), "
        f"{scientific(facts['flops_test'])} for a minibatch in the test ({facts['flops_test_ratio']:.3f})"
    )


if __name__ == "__main__":
    main()
