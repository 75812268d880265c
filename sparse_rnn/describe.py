"""Describe a configuration: python -m sparse_rnn.describe model=rhn."""

import json
import sys
from typing import Any

from sparse_rnn.core import command_line
from sparse_rnn.core.command_line import split_keys
from sparse_rnn.core.conf import describe_groups
from sparse_rnn.core.errors import ConfigError, suggest

HELP = """\
Every weight of a configuration with its gates, shape, sparsity and active count, and the FLOPs of the run; data are
read only where their sizes are not published (text, labelled_text, pydoc, pydoc_topics).

  python -m sparse_rnn.describe [group=name ...] [key=value ...] [format=table|json]

{groups}
Examples:
  python -m sparse_rnn.describe model=stacked_lstm sparsifier=selfish sparsifier.sparsity=0.67 format=json
  python -m sparse_rnn.describe model=rhn sparsifier=rigl
"""


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP.format(groups=describe_groups()), end="")
        return
    command_line.guard(lambda: _print(sys.argv[1:]))


def _print(arguments: list[str]) -> None:
    own, overrides = split_keys(arguments, {"format": "table"})
    if own["format"] not in ("table", "json"):
        raise ConfigError(f"format={own['format']} does not exist{suggest(own['format'], ('table', 'json'))}.")
    facts = describe(overrides)
    if own["format"] == "json":
        print(json.dumps(facts, indent=1))
    else:
        _print_table(facts)


def describe(overrides: list[str]) -> dict[str, Any]:
    """Facts of a configuration given by Hydra overrides; the model is built on the meta device. Raises ConfigError.

    `sparsity` is the inactive share of the weights kept sparse, `active_parameters` counts biases and dense weights
    too. For methods that prune, both are those at the end of training. `flops_...`: see `run_flops`.
    """
    import torch

    from sparse_rnn.config.compose import compose_run
    from sparse_rnn.config.identity import run_id
    from sparse_rnn.runs.flops import run_flops
    from sparse_rnn.sparsity.method import final_counts, make_topology

    run = compose_run(overrides)
    sizes = run.dataset.sizes()
    with torch.device("meta"):
        model = run.model.build(*sizes)
    topology = make_topology(run.sparsifier, model)
    active = final_counts(run.sparsifier, topology)
    weights = []
    for name, parameter in model.named_parameters():
        sparse = name in active
        count = active.get(name, parameter.numel())
        gates = {g: [rows.start, rows.stop] for g, rows in topology[name].gates.items()} if sparse else {}
        weights.append(
            {
                "name": name,
                "shape": list(parameter.shape),
                "gates": {} if list(gates) == ["all"] else gates,
                "sparse": sparse,
                "sparsity": 1 - count / parameter.numel(),
                "active": count,
            }
        )
    parameters = sum(p.numel() for p in model.parameters())
    inactive = topology.size - sum(active.values())
    flops = run_flops(run)
    return {
        "run_id": run_id(run),
        "model": run.model.name,
        "sparsifier": run.sparsifier.name,
        "parameters": parameters,
        "active_parameters": parameters - inactive,
        "sparsity": inactive / topology.size if topology.size else 0.0,
        "flops_train": flops.train,
        "flops_test": flops.test,
        "flops_train_ratio": flops.train_ratio,
        "flops_test_ratio": flops.test_ratio,
        "weights": weights,
    }


def _print_table(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    from sparse_rnn.core.wording import scientific

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
