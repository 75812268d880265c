"""Tables that need no run: they are made from what methods, recipes and data sets declare in configuration and code.

Whatever differs from the paper's table, as copied into results/paper, is said in a note.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from results.reported import FOLDER, Line, read_lines
from results.tables.grid import Field, Grid, Heading, Section
from sparse_rnn.core.conf import config_dir

if TYPE_CHECKING:
    from torch import nn

    from sparse_rnn.config.schema import Run
    from sparse_rnn.data.labelled.dataset import LabelledDataset


TITLES = {
    "table1": "Comparison of sparsity-inducing approaches in RNNs",
    "table4": "Hyperparameters",
    "table10": "Training FLOPs of sparse training approaches",
    "st_table1": "Data sets of text classification",
}

SOURCES = {
    "table1": "Selfish-RNN (ICML 2021), Table 1",
    "table4": "Selfish-RNN (ICML 2021), Table 4",
    "table10": "Selfish-RNN (ICML 2021), Table 10",
    "st_table1": "ST-RNN (NCAA 2021), Table 1",
}

NOT_IN_PAPER = "Not in the paper's table"
UNKNOWN = "-"
TRAITS = {
    "initialization": "Initialization",
    "removal": "Removal",
    "growth": "Growth",
    "redistribution": "Weight redistribution",
    "backward_sparse": "Backward sparse",
}

INITIAL = {"er": "ER", "er_gates": "ER of gates"}
REMOVAL = {"magnitude": "min(|w|)", "set": "min(|w|) of each sign", "threshold": "|w| < H"}
MODELS = {"stacked_lstm": "Stacked LSTM", "rhn": "RHN", "on_lstm": "ON-LSTM", "awd_lstm_mos": "AWD-LSTM-MoS"}
OPTIMIZERS = {"adam": "Adam", "snt_asgd": "SNT-ASGD", "momentum_sgd": "Momentum SGD", "nt_asgd": "NT-ASGD"}
CORPORA = {"ptb": "PTB", "wikitext2": "WikiText-2"}
DROPOUTS = ("dropout_word", "dropout_input", "dropout_hidden", "dropout_output")
SETTINGS = (
    *("Model", "Data", "Opt", "Lr", "Lr drop", "Bs", "BPTT", "Dropout", "Epochs", "Tied", "Coupled", "Clip"),
    *("Nonmono", "P"),
)


@dataclass(frozen=True)
class _Method:
    """A file of conf/sparsifier, composed. said: its line of results/paper/methods.csv, None if the paper has none."""

    label: str
    run: "Run"
    said: Line | None


def table1() -> Grid:
    """Selfish-RNN's taxonomy, from the methods' rules. Raises ConfigError."""
    methods = [method for method in _methods() if method.run.sparsifier.masked]
    notes = (
        "min(|w|): the weights smallest in magnitude go. Backward sparse: the network is sparse from the start, and no "
        "rule reads gradients of inactive weights.",
        "The paper's column Sparse Opt is left out: here every method goes with every optimizer. Its only yes is "
        "Selfish-RNN's, for SNT-ASGD.",
        *(note for method in methods for note in _differences(method)),
    )
    sections = _by_paper([(method, [method.label, *_traits(method.run).values()]) for method in methods])
    return _grid("table1", [_headings("Method", *TRAITS.values())], sections, notes, "conf/sparsifier")


def table4() -> Grid:
    """The settings of Selfish-RNN's recipes, and below those that the paper does not give. Raises ConfigError."""
    listed: list[list[str]] = []
    others: list[list[str]] = []
    assumed: dict[str, list[str]] = {}
    for run in _recipes():
        (others if run.recipe.assumed else listed).append(_settings(run))
        if run.recipe.assumed:
            assumed.setdefault(run.recipe.assumed, []).append(run.recipe.name)
    notes = (
        "Dropout: of words, of the embedding, of hidden layers, of the output. For the stacked LSTM the paper prints "
        "(0, 0, 0.65, 0), and its code has one dropout at the embedding, between layers and at the output, as here.",
        "Lr drop (A, B): B epochs without improvement are allowed before the learning rate is divided by A. P: initial "
        "removal rate. Nonmono: for averaging optimizers.",
        *(f"{', '.join(recipes)}: {what}." for what, recipes in assumed.items()),
    )
    return _grid("table4", [_headings(*SETTINGS)], _sections(listed, others), notes, "conf/recipe")


def table10() -> Grid:
    """FLOPs of a training step by method, and what they come to for the stacked LSTM. Raises ConfigError."""
    from sparse_rnn.runs.flops import run_flops

    methods = _methods("model=stacked_lstm", "optimizer=adam")
    rows = []
    for method in methods:
        flops = run_flops(method.run)
        ratios = [f"{ratio:.3f}x" for ratio in (flops.train_ratio, flops.test_ratio)]
        if _finds_its_size(method.run):
            ratios = [UNKNOWN] * len(ratios)
        rows.append((method, [method.label, *_formulas(method.run), *ratios]))
    example = f"Stacked LSTM, sparsity {methods[0].run.recipe.sparsity}"
    header = [
        (Heading("", 4), Heading(example, 2)),
        _headings("Method", "Forward pass", "Backward pass", "Total", "Training", "Test"),
    ]
    return _grid("table10", header, _by_paper(rows), tuple(_flops_notes(methods)), "conf/sparsifier")


def st_table1() -> Grid:
    """ST-RNN's data sets as declared, without reading them, beside the paper's numbers. Raises ConfigError."""
    keys = ("dataset", "label", "classes", "train", "test", "note")
    paper = {line["dataset"]: line for _, line in read_lines(FOLDER / "datasets.csv", keys)}
    declared = {name: _sizes(dataset) for name, dataset in _datasets(list(paper)).items()}
    rows = []
    for name, sizes in declared.items():
        said = paper.get(name, {})
        ours = [sizes.get(key, UNKNOWN) for key in ("classes", "train", "valid", "test")]
        rows.append([said.get("label", name), *ours, *(said.get(key, "") for key in ("classes", "train", "test"))])
    header = [
        (Heading(""), Heading("here", 4), Heading("paper", 3)),
        _headings("Data set", "Classes", "Train", "Validation", "Test", "Classes", "Train", "Test"),
    ]
    notes = tuple(_size_notes(declared, paper))
    return _grid("st_table1", header, [_section("", rows)], notes, "the classes of the data sets")


DECLARED: Mapping[str, Callable[[], Grid]] = {
    "table1": table1,
    "table4": table4,
    "table10": table10,
    "st_table1": st_table1,
}


def _grid(
    name: str, header: Sequence[tuple[Heading, ...]], sections: Sequence[Section], notes: Sequence[str], made_from: str
) -> Grid:
    footer = (f"Made from {made_from}, without a run.",)
    return Grid(name, TITLES[name], SOURCES[name], tuple(header), tuple(sections), tuple(notes), footer)


def _headings(*texts: str) -> tuple[Heading, ...]:
    return tuple(Heading(text) for text in texts)


def _section(label: str, rows: Sequence[Sequence[str]]) -> Section:
    return Section(label, tuple(tuple(Field(text, muted=text == UNKNOWN) for text in row) for row in rows))


def _by_paper(rows: Sequence[tuple[_Method, Sequence[str]]]) -> list[Section]:
    """The rows of the paper's methods in its order, then those of the others."""
    return _sections([row for method, row in rows if method.said], [row for method, row in rows if not method.said])


def _sections(listed: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> list[Section]:
    return [_section("", listed), *([_section(NOT_IN_PAPER, others)] if others else [])]


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def _first(known: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names, those known first and in that order."""
    return [*(name for name in known if name in names), *(name for name in names if name not in known)]


def _methods(*overrides: str) -> list[_Method]:
    """Every file of conf/sparsifier, those of the paper first and in its order."""
    from sparse_rnn.config.compose import compose_run

    lines = read_lines(FOLDER / "methods.csv", ("sparsifier", "label", *TRAITS, "note"))
    paper = {line["sparsifier"]: line for _, line in lines}
    found = []
    for name in _first(list(paper), _options("sparsifier")):
        said = paper.get(name)
        run = compose_run([f"sparsifier={name}", *overrides])
        found.append(_Method(said["label"] if said else name, run, said))
    return found


def _traits(run: "Run") -> dict[str, str]:
    """A row of Table 1."""
    method = run.sparsifier
    return {
        "initialization": INITIAL.get(method.initial, method.initial),
        "removal": "Lasso" if _finds_its_size(run) else REMOVAL.get(method.removal, method.removal),
        "growth": run.growth.name,
        "redistribution": _redistribution(run),
        "backward_sparse": "yes" if method.initial != "dense" and not _signals(run) else "no",
    }


def _redistribution(run: "Run") -> str:
    from sparse_rnn.core.registry import lookup
    from sparse_rnn.sparsity.rules.redistribution import AcrossGates

    if _moves_across_layers(run):
        return "across all layers"
    across_gates = issubclass(lookup("redistribution", run.sparsifier.redistribution), AcrossGates)
    return "across RNN cell gates" if across_gates else "no"


def _moves_across_layers(run: "Run") -> bool:
    from sparse_rnn.core.registry import lookup
    from sparse_rnn.sparsity.rules.redistribution import AcrossLayers

    return issubclass(lookup("redistribution", run.sparsifier.redistribution), AcrossLayers)


def _differences(method: _Method) -> Iterator[str]:
    """What the paper's table says otherwise."""
    said = method.said or {}
    for key, ours in _traits(method.run).items():
        if ours != (theirs := said.get(key, ours)):
            yield f"{method.label}, {TRAITS[key].lower()}: {theirs} in the paper's table. {said['note']}".strip()


def _formulas(run: "Run") -> tuple[str, str, str]:
    """FLOPs of a sample forward, backward and in total (Selfish-RNN appendix L)."""
    if not run.sparsifier.masked:
        return "fD", "2 fD", "3 fD"
    if run.sparsifier.prunes:
        return "d(t) fD", "2 d(t) fD", "3 d(t) fD"
    if "momentum" in _signals(run):
        return "fS", "fS + fD", "2 fS + fD"
    if "gradient" in _signals(run):
        return "fS", "((2T + 1) fS + fD) / (T + 1)", "((3T + 2) fS + fD) / (T + 1)"
    return "fS", "2 fS", "3 fS"


def _flops_notes(methods: Sequence[_Method]) -> Iterator[str]:
    def labels(holds: Callable[["Run"], bool]) -> str:
        return ", ".join(method.label for method in methods if holds(method.run))

    yield (
        "fD, fS: FLOPs of the dense and of the sparse network forward. d(t): share of weights active at step t, which "
        "the paper writes s_t. T: steps between updates; the ratios leave the dense gradient of an update out."
    )
    yield "An embedding that is only looked up counts with the gradient of its weight alone (appendix L)."
    if moving := labels(_moves_across_layers):
        yield f"{moving}: counted by the distribution over layers that training begins with; a run changes it."
    if finding := labels(_finds_its_size):
        yield f"{finding}: the size is an outcome of training, and so are the FLOPs."
    if keeping := labels(lambda run: "momentum" in _signals(run)):
        yield (
            f"{keeping}: with Adam or momentum SGD. SNT-ASGD and NT-ASGD have no momentum: the gradient at an update "
            "takes its place, and the formula is that of gradient growth."
        )


def _signals(run: "Run") -> Collection[str]:
    from sparse_rnn.sparsity.method import signals_needed

    return signals_needed(run.sparsifier, run.growth)


def _finds_its_size(run: "Run") -> bool:
    from sparse_rnn.sparsity.iss.penalty import ISSConfig

    return isinstance(run.sparsifier, ISSConfig)


def _recipes() -> Iterator["Run"]:
    """Every recipe for a language model and an optimizer, composed."""
    from sparse_rnn.config.compose import compose_run
    from sparse_rnn.core.registry import lookup

    recipes = _options("recipe")
    for model in _first(list(MODELS), _options("model")):
        if lookup("model", model).task != "language_modelling":
            continue
        for optimizer in _first(list(OPTIMIZERS), _options("optimizer")):
            if f"{model}_{optimizer}" in recipes:
                yield compose_run([f"model={model}", f"optimizer={optimizer}"])


def _settings(run: "Run") -> list[str]:
    """A row of Table 4."""
    import torch

    with torch.device("meta"):
        network = run.model.build(*run.dataset.sizes())
    optimizer: Any = run.optimizer
    training = run.training
    everywhere = getattr(run.model, "dropout", 0)
    dropouts = [getattr(run.model, key, 0 if key == "dropout_word" else everywhere) for key in DROPOUTS]
    falls = hasattr(optimizer, "plateau_factor") and optimizer.plateau_factor < 1
    return [
        MODELS.get(run.model.name, run.model.name),
        CORPORA.get(run.dataset.name, run.dataset.name),
        OPTIMIZERS.get(optimizer.name, optimizer.name),
        f"{optimizer.lr:g}",
        f"({1 / optimizer.plateau_factor:.3g}x, {optimizer.plateau_patience})" if falls else "-",
        str(training.batch),
        str(training.bptt),
        f"({', '.join(f'{dropout:g}' for dropout in dropouts)})",
        str(training.epochs),
        "yes" if _is_tied(network) else "no",
        "yes" if _is_coupled(network) else "no",
        "-" if training.clip is None else f"{training.clip:g}",
        str(getattr(optimizer, "nonmono", "-")),
        f"{run.sparsifier.removal_rate:g}",
    ]


def _is_tied(network: "nn.Module") -> bool:
    """Whether another module uses the weight of an embedding."""
    from torch import nn

    modules = list(network.modules())
    embeddings = {id(module.weight) for module in modules if isinstance(module, nn.Embedding)}
    others = [module for module in modules if not isinstance(module, nn.Embedding)]
    return any(id(weight) in embeddings for module in others for weight in module.parameters(recurse=False))


def _is_coupled(network: "nn.Module") -> bool:
    """Whether there are transform gates without carry gates of their own."""
    from sparse_rnn.sparsity.gates import find_gates

    names = {name for gates in find_gates(network).values() for name in gates.rows}
    return "transform" in names and "carry" not in names


def _datasets(paper: Sequence[str]) -> dict[str, "LabelledDataset"]:
    """The published labelled data sets by name, those of the paper first and in its order."""
    from sparse_rnn.config.compose import compose_run
    from sparse_rnn.core.registry import lookup
    from sparse_rnn.data.labelled.dataset import LabelledDataset

    found = {}
    for name in _first(paper, _options("dataset")):
        kind = lookup("dataset", name)
        if issubclass(kind, LabelledDataset) and kind.published is not None:
            dataset = compose_run(["model=lstm_classifier", f"dataset={name}"]).dataset
            assert isinstance(dataset, LabelledDataset)
            found[name] = dataset
    return found


def _sizes(dataset: "LabelledDataset") -> dict[str, str]:
    """Classes and numbers of texts as printed; `train` counts those for validation too, `test` may be missing."""
    texts, trained = dataset.published, dataset.train_tokens(None)
    assert texts is not None
    assert trained is not None
    drawn = round(dataset.test_share * texts)
    test = getattr(dataset, "counts", {}).get("test", drawn)
    train = texts - drawn
    sizes = {"classes": dataset.sizes()[1], "train": train, "valid": train - trained // dataset.length, "test": test}
    return {key: f"{number:,}" for key, number in sizes.items() if number}


def _size_notes(declared: Mapping[str, Mapping[str, str]], paper: Mapping[str, Line]) -> Iterator[str]:
    yield "Validation: held out of the texts to train on (dataset.valid_share); the paper does not mention any."
    labels = {name: paper[name]["label"] if name in paper else name for name in declared}
    unknown = [labels[name] for name, sizes in declared.items() if "test" not in sizes]
    if unknown:
        yield f"{', '.join(unknown)}: the number of test texts is that of the published file, and not declared."
    for name, sizes in declared.items():
        said = paper.get(name, {})
        for key, ours in sizes.items():
            if ours != (theirs := said.get(key, ours)):
                yield f"{labels[name]}, {key}: {theirs} in the paper's table. {said['note']}".strip()
