"""A trained model as a folder that a model hub shows and `load_exported` reads: weights, configuration, card."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.content import FILE_KEYS, OWN
from sparse_rnn.inference.export import ExportedSize, export_folder
from sparse_rnn.inference.exported import FORMAT, LATER, METADATA, Exported, read_exported
from sparse_rnn.inference.find_model import MODEL_FILE
from sparse_rnn.inference.load import read_run
from sparse_rnn.inference.model_card import model_card
from sparse_rnn.runs.folder import RunFolder

CARD, CONFIG, VOCABULARY = "README.md", "config.json", "vocabulary.json"
JSON = ("config", "sizes", "sparsity", "parameters", "active_parameters")  # what the metadata have of it


def export_for_hub(folder: RunFolder, out: Path, weights: str, values: str, licence: str) -> ExportedSize:
    """Write the best, averaged or raw weights of a run into the folder `out`, with all that a hub shows of them.

    Of the files of a user's own text, only the names are told. Files of these names are replaced if `out` holds a model
    already; others stay. Raises ConfigError, RunFailed, OSError; then nothing is written.
    """
    _check_place(out)
    record, run = read_run(folder)
    layout = "packed" if run.sparsifier.masked else "dense"
    with tempfile.TemporaryDirectory(prefix=f".{out.absolute().name}.", dir=out.absolute().parent) as draft:
        model = Path(draft) / MODEL_FILE
        size = export_folder(folder, model, layout, weights, values, _told(record["config"]))
        exported = read_exported(model)
        texts = {CONFIG: _config(exported), CARD: model_card(exported, record, licence)}
        if vocabulary := exported.metadata.get("vocabulary"):
            texts[VOCABULARY] = vocabulary + "\n"
        for name, text in texts.items():
            (Path(draft) / name).write_text(text, encoding="utf-8")
        out.mkdir(exist_ok=True)
        for name in (MODEL_FILE, *texts):
            os.replace(Path(draft) / name, out / name)
    return size


def _check_place(out: Path) -> None:
    """Raise ConfigError if `out` has files of these names that are not of a model."""
    if (out / MODEL_FILE).exists():
        return
    if taken := next((name for name in (CARD, CONFIG, VOCABULARY) if os.path.lexists(out / name)), ""):
        raise ConfigError(f"out={out} has a {taken} and no {MODEL_FILE}: name another folder, which need not exist.")


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what concerns nobody else: where the user's files are, and who logs what."""
    dataset, logger = dict(config["dataset"]), dict(config["logger"])
    logger |= {key: None for key in ("entity", "uri") if key in logger}
    if dataset["name"] in OWN:
        dataset |= {key: os.path.basename(dataset[key]) for key in FILE_KEYS if dataset.get(key)}
    return {**config, "dataset": dataset, "logger": logger}


def _config(exported: Exported) -> str:
    """What the model's file says of itself but the vocabulary and the checksum, for readers of JSON."""
    told = exported.metadata
    facts = {key: json.loads(told[key]) if key in JSON else told[key] for key in METADATA if key not in LATER}
    kind = {"model_type": FORMAT, "architectures": [type(exported.skeleton).__name__]}
    return json.dumps({**kind, **facts, "values": told["values"]}, indent=2) + "\n"
