"""Table 1 of ST-RNN: the sizes of the data sets of text classification, as declared, beside the paper's."""

from collections.abc import Iterator, Mapping, Sequence

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import options
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.labelled.dataset import LabelledDataset

from ...reported import FOLDER, Line, read_lines
from ..grid import Grid, Heading
from .parts import UNKNOWN, declared_grid, headings, in_order_of, sections

TITLE, SOURCE = "Data sets of text classification", "ST-RNN (NCAA 2021), Table 1"


def st_table1() -> Grid:
    """The declared sizes, without reading any data, beside the paper's numbers; raises ConfigError."""
    keys = ("dataset", "label", "classes", "train", "test", "note")
    paper = {line["dataset"]: line for _, line in read_lines(FOLDER / "datasets.csv", keys)}
    declared = {name: _sizes(dataset) for name, dataset in _datasets(list(paper)).items()}
    rows = []
    for name, sizes in declared.items():
        printed = paper.get(name, {})
        ours = [sizes.get(key, UNKNOWN) for key in ("classes", "train", "valid", "test")]
        rows.append(
            [printed.get("label", name), *ours, *(printed.get(key, "") for key in ("classes", "train", "test"))]
        )
    return declared_grid(
        "st_table1",
        TITLE,
        SOURCE,
        header=[
            (Heading(""), Heading("here", 4), Heading("paper", 3)),
            headings("Data set", "Classes", "Train", "Validation", "Test", "Classes", "Train", "Test"),
        ],
        sections=sections(rows),
        notes=tuple(_notes(declared, paper)),
        made_from="the classes of the data sets",
    )


def _datasets(paper: Sequence[str]) -> dict[str, LabelledDataset]:
    """The published labelled data sets by name, those of the paper first and in its order."""
    found = {}
    for name in in_order_of(paper, options("dataset")):
        kind = lookup("dataset", name)
        if issubclass(kind, LabelledDataset) and kind.published is not None:
            dataset = compose_run(["model=lstm_classifier", f"dataset={name}"]).dataset
            assert isinstance(dataset, LabelledDataset)
            found[name] = dataset
    return found


def _sizes(dataset: LabelledDataset) -> dict[str, str]:
    """Number of classes and of texts, as printed.

    train: includes the texts for validation, as in the paper. test: absent if nothing declares it.
    """
    texts, trained = dataset.published, dataset.train_tokens(None)
    assert texts is not None
    assert trained is not None
    drawn = round(dataset.test_share * texts)
    test = getattr(dataset, "counts", {}).get("test", drawn)
    train = texts - drawn
    sizes = {"classes": dataset.sizes()[1], "train": train, "valid": train - trained // dataset.length, "test": test}
    return {key: f"{number:,}" for key, number in sizes.items() if number}


def _notes(declared: Mapping[str, Mapping[str, str]], paper: Mapping[str, Line]) -> Iterator[str]:
    yield "Validation: held out of the texts to train on (dataset.valid_share); the paper does not mention any."
    labels = {name: paper[name]["label"] if name in paper else name for name in declared}
    unknown = [labels[name] for name, sizes in declared.items() if "test" not in sizes]
    if unknown:
        yield f"{', '.join(unknown)}: the number of test texts is that of the published file, and not declared."
    for name, sizes in declared.items():
        printed = paper.get(name, {})
        for key, ours in sizes.items():
            if ours != (theirs := printed.get(key, ours)):
                yield f"{labels[name]}, {key}: {theirs} in the paper's table. {printed['note']}".strip()
