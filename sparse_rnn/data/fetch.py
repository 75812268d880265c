"""Published data sets brought to this machine ahead of training, and what they hold."""

from pathlib import Path
from typing import Any

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.data.content import OWN
from sparse_rnn.data.labelled import published  # noqa: F401  (fill the registry)
from sparse_rnn.data.labelled.texts import LabelledTexts
from sparse_rnn.data.language import characters, corpora, wikitext103  # noqa: F401  (fill the registry)
from sparse_rnn.data.sequences import drawn, images  # noqa: F401  (fill the registry)


def select(names: list[str]) -> list[str]:
    """The data sets of these names; without names, all that are downloaded. Raises ConfigError."""
    known = [name for name in choices("dataset") if name not in OWN]
    for name in names:
        if name not in known:
            raise ConfigError(f"{name} is not a data set that is published{suggest(name, known)}.")
    return names or [name for name in known if hasattr(lookup("dataset", name), "fetch")]


def fetch(name: str) -> tuple[str, list[Path]]:
    """Fetch a data set unless it is here, and read it: what it holds in one line, and its files. Raises ConfigError."""
    dataset = lookup("dataset", name)()
    files = list(dataset.fetch().values()) if hasattr(dataset, "fetch") else []
    return describe(dataset), files


def describe(dataset: Any) -> str:
    """What a data set holds, in one line."""
    data = dataset.load()
    counts = " / ".join(f"{count:,}" for count in data.counts.values())
    if isinstance(data, LabelledTexts):
        return f"{counts} {data.unit} of {len(data.classes)} classes, {data.words:,} words"
    sizes = (f"{n:,} {what}" for n, what in zip(data.sizes, data.size_names, strict=False))
    return f"{counts} {data.unit}, {', '.join(sizes)}"
