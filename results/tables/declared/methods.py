"""Table 1 of Selfish-RNN: the taxonomy of methods, read off their rules."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.core.conf import options
from sparse_rnn.core.registry import lookup
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.method import signals_needed
from sparse_rnn.sparsity.rules.growth import DENSE_GRADIENTS
from sparse_rnn.sparsity.rules.redistribution import AcrossGates, AcrossLayers

from ...reported import FOLDER, Line, read_lines
from ..grid import Grid, Section
from .parts import declared_grid, headings, in_order_of, sections

TITLE, SOURCE = "Comparison of sparsity-inducing approaches in RNNs", "Selfish-RNN (ICML 2021), Table 1"
TRAITS = {
    "initialization": "Initialization",
    "removal": "Removal",
    "growth": "Growth",
    "redistribution": "Weight redistribution",
    "backward_sparse": "Backward sparse",
}
INITIAL = {"er": "ER", "er_gates": "ER of gates"}
REMOVAL = {"magnitude": "min(|w|)", "set": "min(|w|) of each sign", "threshold": "|w| < H"}


@dataclass(frozen=True)
class Method:
    """A file of conf/sparsifier, composed. printed: its line of results/paper/methods.csv, None if there is none."""

    label: str
    run: Run
    printed: Line | None


def table1() -> Grid:
    """The methods and their traits; raises ConfigError."""
    listed = [method for method in methods() if method.run.sparsifier.masked]
    notes = (
        "min(|w|): the weights smallest in magnitude go. Backward sparse: the network is sparse from the start, and no "
        "rule reads gradients of inactive weights.",
        "The paper's column Sparse Opt is left out: here every method goes with every optimizer. Its only yes is "
        "Selfish-RNN's, for SNT-ASGD.",
        *(note for method in listed for note in _differences(method)),
    )
    return declared_grid(
        "table1",
        TITLE,
        SOURCE,
        header=[headings("Method", *TRAITS.values())],
        sections=by_paper([(method, [method.label, *traits(method.run).values()]) for method in listed]),
        notes=notes,
        made_from="conf/sparsifier",
    )


def methods(*overrides: str) -> list[Method]:
    """Every file of conf/sparsifier, those of the paper first and in its order; raises ConfigError."""
    lines = read_lines(FOLDER / "methods.csv", ("sparsifier", "label", *TRAITS, "note"))
    paper = {line["sparsifier"]: line for _, line in lines}
    found = []
    for name in in_order_of(list(paper), options("sparsifier")):
        printed = paper.get(name)
        run = compose_run([f"sparsifier={name}", *overrides])
        found.append(Method(printed["label"] if printed else name, run, printed))
    return found


def by_paper(rows: Sequence[tuple[Method, Sequence[str]]]) -> list[Section]:
    """The rows of the paper's methods in its order, then those of the others."""
    listed = [row for method, row in rows if method.printed]
    return sections(listed, [row for method, row in rows if not method.printed])


def traits(run: Run) -> dict[str, str]:
    """A method's fields in Table 1 by the keys of TRAITS."""
    method = run.sparsifier
    return {
        "initialization": INITIAL.get(method.initial, method.initial),
        "removal": "Lasso" if finds_its_size(run) else REMOVAL.get(method.removal, method.removal),
        "growth": run.growth.name,
        "redistribution": _redistribution(run),
        "backward_sparse": "yes" if method.initial != "dense" and not dense_signals(run) else "no",
    }


def _redistribution(run: Run) -> str:
    if moves_across_layers(run):
        return "across all layers"
    across_gates = issubclass(lookup("redistribution", run.sparsifier.redistribution), AcrossGates)
    return "across RNN cell gates" if across_gates else "no"


def moves_across_layers(run: Run) -> bool:
    """Whether an update may change how many weights a layer has."""
    return issubclass(lookup("redistribution", run.sparsifier.redistribution), AcrossLayers)


def dense_signals(run: Run) -> Collection[str]:
    """What the method's rules read that needs gradients of inactive weights: "gradient", "momentum", "reserve"."""
    return signals_needed(run.sparsifier, run.growth) & DENSE_GRADIENTS


def finds_its_size(run: Run) -> bool:
    """Whether the sparsity is an outcome of training, as that of ISS is."""
    return isinstance(run.sparsifier, ISSConfig)


def _differences(method: Method) -> Iterator[str]:
    """A note for every trait that the paper's table has otherwise."""
    printed = method.printed or {}
    for key, ours in traits(method.run).items():
        if ours != (theirs := printed.get(key, ours)):
            yield f"{method.label}, {TRAITS[key].lower()}: {theirs} in the paper's table. {printed['note']}".strip()
