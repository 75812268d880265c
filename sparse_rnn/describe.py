"""Describe a configuration: python -m sparse_rnn.describe model=rhn."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.command_line import one_of, split_keys, start
from sparse_rnn.core.conf import describe_groups
from sparse_rnn.core.wording import counted, scientific

if TYPE_CHECKING:  # rich comes with the extra `experiments`: without it, this module still prints its help
    from rich.console import Group
    from rich.table import Table

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
    from rich.console import Console
    from rich.measure import Measurement

    console, table = Console(highlight=False), _weights(facts["weights"])
    wanted = Measurement.get(console, console.options.update(width=1000), table).maximum
    if not console.is_terminal:  # where rich assumes 80 columns, and would cut the names of weights
        console.width = max(console.width, wanted)
    console.print(table if console.width >= wanted else _narrow(facts["weights"]))
    for group in facts["groups"]:
        console.print(_group(group), markup=False, soft_wrap=not console.is_terminal)
    run_id, flops = facts["run_id"], (scientific(facts["flops_train"]), scientific(facts["flops_test"]))
    for line in (
        f"{run_id}: {facts['active_parameters']:,} of {counted(facts['parameters'], 'parameter')} active, "
        f"sparsity {facts['sparsity']:.4f} of the sparse weights",
        f"FLOPs: {flops[0]} to train ({facts['flops_train_ratio']:.3f} of the dense model's), "
        f"{flops[1]} for a minibatch in the test ({facts['flops_test_ratio']:.3f})",
    ):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)


def _group(group: Mapping[str, Any]) -> str:
    """One line for the weights that have settings of their own, and for the others."""
    return (
        f"{group['glob'] or 'other weights'}: {counted(len(group['weights']), 'weight')}, sparsity "
        f"{group['sparsity']:.4f}, {group['active']:,} of {group['size']:,} active, removal rate "
        f"{group['removal_rate']:g}"
    )


def _weights(weights: Sequence[Mapping[str, Any]]) -> "Table":
    """One row for each weight."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("weight", "shape", "gates (rows)"):
        table.add_column(column, no_wrap=True)
    for column in ("sparsity", "active"):
        table.add_column(column, justify="right")
    for weight in weights:
        shape, gates, sparsity = _shape_gates_and_sparsity(weight)
        table.add_row(weight["name"], shape, gates, sparsity, f"{weight['active']:,}")
    return table


def _narrow(weights: Sequence[Mapping[str, Any]]) -> "Group":
    """A few short lines for each weight."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    lines: list[Text | Padding] = []
    for weight in weights:
        shape, gates, sparsity = _shape_gates_and_sparsity(weight)
        lines.append(Text(weight["name"], "bold"))
        about = [f"{shape}, {sparsity}, {weight['active']:,} active", *filter(None, [gates])]
        lines += [Padding(Text(line), (0, 0, 0, 2)) for line in about]
    return Group(*lines)


def _shape_gates_and_sparsity(weight: Mapping[str, Any]) -> tuple[str, str, str]:
    gates = "  ".join(f"{gate} {start}-{stop - 1}" for gate, (start, stop) in weight["gates"].items())
    sparsity = f"{weight['sparsity']:.4f}" if weight["sparse"] else "dense"
    return " x ".join(map(str, weight["shape"])), gates, sparsity


if __name__ == "__main__":
    main()
