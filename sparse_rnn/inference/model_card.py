"""The card of an exported model: README.md with the front matter that a model hub reads."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sparse_rnn import __version__
from sparse_rnn.core.metrics import Metric, metric_of
from sparse_rnn.core.wording import counted
from sparse_rnn.data.base import has_words
from sparse_rnn.data.content import FILE_KEYS
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.inference.exported import Exported
from sparse_rnn.tables.settings import key_of
from sparse_rnn.training.asked_for import asked_for, without_machine

SPLITS = ("valid", "test")
TASKS = {"language_modelling": "text-generation", "text_classification": "text-classification"}
UNKNOWN_LICENCE = "unknown"  # the hub's word for a licence that nobody has named
DECIMALS = 4  # as `evaluate` prints


def model_card(exported: Exported, record: Mapping[str, Any], licence: str) -> str:
    """The card of a file, with the results and the circumstances that the record of its run tells.

    Results stand there only where they are those of the file: of the best weights, not rounded.
    """
    results = _results(exported, record)
    front = yaml.safe_dump(_front_matter(exported, record, results, licence), sort_keys=False, allow_unicode=True)
    sections = [
        _title(exported, record),
        _use(exported),
        _result(exported, record, results),
        _training(exported, record),
        _masks(exported),
        _files(exported),
        _licence(licence),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _results(exported: Exported, record: Mapping[str, Any]) -> dict[str, float]:
    """What the run is judged by, by split; nothing where the record tells of other weights than the file has."""
    found = record.get("results", {})
    if exported.metadata["values"] != "fp32" or not exported.metadata["weights"].startswith("best"):
        return {}
    values = {split: found.get(f"{split}/{_metric(record).name}") for split in SPLITS}
    return {split: round(value, DECIMALS) for split, value in values.items() if _is_finite(value)}


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _metric(record: Mapping[str, Any]) -> Metric:
    return metric_of(record.get("results", {}), "test/")


def _data(exported: Exported) -> str:
    return dataset_name(vars(exported.run.dataset))


def _front_matter(
    exported: Exported, record: Mapping[str, Any], results: Mapping[str, float], licence: str
) -> dict[str, Any]:
    run, metric = exported.run, _metric(record)
    task = TASKS.get(run.model.task, "other") if has_words(run.dataset) else "other"
    front: dict[str, Any] = {
        "license": licence or UNKNOWN_LICENCE,
        "library_name": "sparse_rnn",
        **({"pipeline_tag": task} if task != "other" else {}),
        "tags": list(dict.fromkeys(["sparse", "recurrent-neural-network", run.model.name, run.sparsifier.name])),
        "datasets": [_data(exported)],
        "metrics": [metric.name],
    }
    if results:
        front["model-index"] = [
            {
                "name": exported.metadata["run"],
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {"type": _data(exported), "name": _data(exported), "split": split},
                        "metrics": [{"type": metric.name, "value": value, "name": f"{metric.words} ({split})"}],
                    }
                    for split, value in results.items()
                ],
            }
        ]
    return front


def _title(exported: Exported, record: Mapping[str, Any]) -> str:
    run, told = exported.run, exported.metadata
    held = f"{int(told['active_parameters']):,} of {counted(int(told['parameters']), 'parameter')} are active"
    return (
        f"# {told['run']}\n\n"
        f"A recurrent network, `model={run.model.name}`, trained on `dataset={_data(exported)}` with "
        f"`sparsifier={run.sparsifier.name}` by sparse_rnn {__version__}.\n{held}."
    )


def _use(exported: Exported) -> str:
    writes = exported.run.model.task == "language_modelling" and has_words(exported.run.dataset)
    generate = '\nsparse-rnn generate file=. prompt="the"' if writes else ""
    return f"""\
## Use it

In the folder of these files:

```bash
pip install 'sparse-rnn[experiments]'{generate}
sparse-rnn evaluate file=. data=YOUR_FILE
```

In Python, with `pip install 'sparse-rnn[experiments,hub]'`, the name of this page will do:

```python
from sparse_rnn.inference.export import load_exported

model = load_exported("OWNER/NAME")  # or a folder; revision="..." takes a branch, tag or commit
```

`model` is a dense module of PyTorch in evaluation mode. `model.encode(text)` and `model.decode(tokens)` know its
vocabulary. No file here holds code or a pickle, and a file that was damaged is refused."""


def _result(exported: Exported, record: Mapping[str, Any], results: Mapping[str, float]) -> str:
    if not results:
        return (
            "## Result\n\nThe record of the run has no result for these weights "
            f"({exported.metadata['weights']}, {exported.metadata['values']}). Measure them where the data are:\n\n"
            "```bash\nsparse-rnn evaluate file=. split=test\n```"
        )
    lines = [
        "## Result",
        "",
        f"| split | {_metric(record).words} | command, in the folder of these files |",
        "|---|---|---|",
        *(f"| {split} | {value} | `sparse-rnn evaluate file=. split={split}` |" for split, value in results.items()),
        "",
        "The commands read the data set, and refuse data other than those of the run, whose SHA-256 is",
        f"`{record['data_sha256']}`.",
    ]
    return "\n".join(lines + list(_remark_on_data(exported, record)))


def _remark_on_data(exported: Exported, record: Mapping[str, Any]) -> Iterator[str]:
    if exported.run.dataset.name.startswith("pydoc"):
        python = record["environment"]["python"]
        yield f"The data are the English text that comes with Python {python}; other versions have other texts."


def _training(exported: Exported, record: Mapping[str, Any]) -> str:
    run, where = exported.run, record["environment"]
    unit, counts = next(
        (key, value) for key, value in record.items() if isinstance(value, Mapping) and "train" in value
    )
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items() if name == "torch")
    rows = {
        "method": _method(exported),
        "sparsity of the sparse weights": f"{float(exported.metadata['sparsity']):.4f}",
        "active parameters": f"{int(exported.metadata['active_parameters']):,}",
        "parameters": f"{int(exported.metadata['parameters']):,}",
        "weights": f"{exported.metadata['weights']}; stored as {exported.metadata['values']}",
        "seeds": f"seed={run.seed} init_seed={run.init_seed}",
        "optimizer": f"{run.optimizer.name}, recipe {run.recipe.name}, protocol {run.protocol.name}",
        f"{unit} ({' / '.join(counts)})": " / ".join(f"{count:,}" for count in counts.values()),
        "trained with": f"Python {where['python']}, {packages}, {counted(record['threads'], 'thread')}, "
        f"device {record['device']}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    if record["status"] != "finished":
        planned = counted(run.training.epochs, "epoch")
        table += f"\n\n**Training was not finished** when this was written: it was to last {planned}."
    return f"## Training\n\n```bash\n{_command(exported, record)}\n```\n\n| | |\n|---|---|\n{table}"


def _command(exported: Exported, record: Mapping[str, Any]) -> str:
    """The command that trains the same, with names alone for the user's own files."""
    config = json.loads(exported.metadata["config"])
    asked = without_machine(asked_for(record["overrides"], config))
    own = {f"dataset.{key}": config["dataset"].get(key) for key in FILE_KEYS}
    words = [f"{key_of(each)}={own[key_of(each)]}" if own.get(key_of(each)) else each for each in asked]
    return " ".join(["sparse-rnn train", *words, f"threads={record['threads']}"])


def _method(exported: Exported) -> str:
    method, growth = exported.run.sparsifier, exported.run.growth.name
    if not method.masked:
        return f"`{method.name}`, without masks"
    parts = [f"initial {method.initial}"]
    if method.dynamic:
        parts += [f"removal {method.removal}", f"growth {growth}", f"redistribution {method.redistribution}"]
        parts += [f"scope {method.scope}", f"schedule {method.schedule}", f"update_interval {method.update_interval}"]
    return f"`{method.name}`: {', '.join(parts)}"


def _masks(exported: Exported) -> str:
    if not exported.sparse:
        return "## Weights\n\n`model.safetensors` has every parameter as a tensor of its name; there are no masks."
    rows = [
        f"| `{name}` | {' x '.join(map(str, weight.shape))} | {exported.active(name):,} | "
        f"{1 - exported.active(name) / weight.numel():.4f} |"
        for name, weight in exported.sparse.items()
    ]
    table = "\n".join(["| weight | shape | active | sparsity |", "|---|---|---|---|", *rows])
    return f"""\
## Masks

{table}

In `model.safetensors` a sparse weight is three tensors: `<name>.shape`; `<name>.values`, its active entries in
row-major order; and `<name>.bitmap`, its mask, with a bit for every entry, the first in the highest bit. All other
parameters are tensors of their names. Without sparse_rnn, a weight is read like this:

```python
import numpy
import torch
from safetensors.torch import load_file

tensors, name = load_file("model.safetensors"), "{next(iter(exported.sparse))}"
shape = tensors[f"{{name}}.shape"].tolist()
weight = torch.zeros(shape)
mask = numpy.unpackbits(tensors[f"{{name}}.bitmap"].numpy(), count=weight.numel()).astype(bool)
weight.view(-1)[torch.from_numpy(mask)] = tensors[f"{{name}}.values"].float()
```"""


def _files(exported: Exported) -> str:
    vocabulary = ", and `vocabulary.json` the vocabulary" if "vocabulary" in exported.metadata else ""
    return (
        "## Files\n\n`model.safetensors` is all that sparse_rnn reads. For people and other software, `config.json`\n"
        f"repeats the configuration of the run{vocabulary}."
    )


def _licence(licence: str) -> str:
    if not licence:
        return "## Licence\n\nNobody has stated the licence of these weights: ask before you use them."
    return f"## Licence\n\n{licence}"
