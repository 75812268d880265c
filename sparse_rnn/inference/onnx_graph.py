"""The dense equivalent of a trained model as an ONNX graph, for those who deploy it elsewhere.

A language model's graph reads `tokens`, int64 [T, B], and the tensors of its hidden state, `state_0` and so on, in the
order of `initial_hidden`. It gives `log_probabilities`, in nats [T, B, words], and the state after the window,
`next_state_0` and so on. A classifier's graph gives `logits` [B, classes] of its tokens. T and B are free.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  (torch's exporter needs it, and says so less plainly)
import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.files import atomic
from sparse_rnn.models.base import LanguageModel, hidden_tensors, map_hidden

OPSET = 18
LARGEST = 2**31 - 1  # bytes of a protobuf message
TOLERANCE = 1e-4
TRACED = (3, 2)  # length and batch that are traced; others are then compared
COMPARED = ((5, 3), (2, 3))  # of two windows, the second of which begins where the first ends


class Window(nn.Module):
    """A model as a function of tensors alone, tokens [T, B] and the state before, see above."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """What the model says of the tokens, and the state after them."""
        if not isinstance(self.model, LanguageModel):
            return (self.model(tokens),)
        before = iter(state)
        template = self.model.initial_hidden(1)
        output, after = self.model(tokens, map_hidden(lambda _: next(before), template))
        return self.model.log_probabilities(output), *hidden_tensors(after)


class Step(Window):
    """The same of one token of each sequence, tokens [B]."""

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Log probabilities [B, words], and the state after the token."""
        said, *after = super().forward(tokens[None], *state)
        return said[0], *after


def save_onnx(path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Write the graph of a dense model atomically, once onnxruntime has computed what torch does.

    about: metadata. Raises ConfigError for a model that is too large or has no such graph, and OSError.
    """
    if sum(parameter.nbytes for parameter in model.parameters()) > LARGEST:
        raise ConfigError("A file of ONNX holds up to 2 GB, and the model is larger: use another format.")
    graph = _graph(model)
    for key, value in about.items():
        graph.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    with atomic(path) as draft, draft.open("rb+") as stream:
        stream.write(graph.SerializeToString())


@torch.no_grad()
def _graph(model: nn.Module) -> onnx.ModelProto:
    """A graph that agrees with the model: of a window, or of a step that is scanned over it."""
    graphs = (window_graph, scanned_graph) if isinstance(model, LanguageModel) else (window_graph,)
    for make in graphs:
        with _quiet():
            try:
                graph: onnx.ModelProto = make(model)
                difference = largest_difference(graph, model)
            except Exception as error:  # the exporters and onnxruntime raise their own kinds
                failed = str(error)
                continue
        if difference <= TOLERANCE:
            return graph
        failed = f"it differs by {difference:.2g}"
    reason = failed.strip().partition("\n")[0].rstrip(".")
    raise RunFailed(f"{type(model).__name__} cannot be written as a graph of ONNX ({reason}): use another format.")


def window_graph(model: nn.Module) -> onnx.ModelProto:
    """The graph by tracing: right where every loop over time is inside an operator, as in torch's LSTM."""
    inputs, outputs = _names(model, "state", "next_state")
    state = _state(model, TRACED[1])
    free = {"tokens": {0: "T", 1: "B"}, outputs[0]: {0: "T", 1: "B"} if state else {0: "B"}}
    free |= {name: {part.dim() - 2: "B"} for name, part in zip((*inputs[1:], *outputs[1:]), state * 2, strict=True)}
    traced = io.BytesIO()
    tokens = torch.zeros(TRACED, dtype=torch.int64)
    torch.onnx.export(
        Window(model),
        (tokens, *state),
        traced,  # type: ignore[arg-type]  # a stream is written to as well
        dynamo=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=free,
        opset_version=OPSET,
    )
    return onnx.load_from_string(traced.getvalue())


def scanned_graph(model: nn.Module) -> onnx.ModelProto:
    """The graph of one step inside the operator Scan, which repeats it for every token."""
    inputs, outputs = _names(model, "before", "after")
    state, batch = _state(model, TRACED[1]), torch.export.Dim("B")
    free = {0: batch}, tuple({part.dim() - 2: batch} for part in state)
    tokens = torch.zeros(TRACED[1], dtype=torch.int64)
    program = torch.onnx.export(
        Step(model),
        (tokens, *state),
        dynamo=True,
        input_names=["token", *inputs[1:]],
        output_names=["said", *outputs[1:]],
        dynamic_shapes=free,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    return _scanned(program.model_proto, *_names(model, "state", "next_state"))


def _scanned(step: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph that scans another one over the first dimension of its tokens; states come first in a Scan."""
    whole, body = onnx.ModelProto(), step.graph
    whole.CopyFrom(step)
    whole.graph.ClearField("node")
    for kept, named in ((whole.graph.input, inputs), (whole.graph.output, outputs)):
        for value, name in zip(kept, named, strict=True):
            value.name = name
        length = onnx.TensorShapeProto.Dimension(dim_param="T")
        shape = kept[0].type.tensor_type.shape
        dimensions = [length, *shape.dim]
        shape.ClearField("dim")
        shape.dim.extend(dimensions)
    for part in ("initializer", "value_info", "metadata_props"):
        body.ClearField(part)  # a body reads the weights of the graph around it
    for node in body.node:
        node.ClearField("metadata_props")  # lines of Python's source, with their paths
    for part in ("value_info", "metadata_props"):
        whole.graph.ClearField(part)
    for values in (body.input, body.output):
        first = values.pop(0)
        values.append(first)
    scan = onnx.helper.make_node(
        "Scan", [*inputs[1:], inputs[0]], [*outputs[1:], outputs[0]], body=body, num_scan_inputs=1
    )
    whole.graph.node.append(scan)
    return whole


def largest_difference(graph: onnx.ModelProto, model: nn.Module) -> float:
    """Between what onnxruntime and torch compute of two windows, the second of which goes on with the state."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a graph that is wrong for other lengths is no news: another one is tried
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    draw, window = torch.Generator().manual_seed(0), Window(model)
    words = next(model.parameters()).shape[0]
    state, there, largest = _state(model, COMPARED[0][1]), None, 0.0
    for shape in COMPARED:
        tokens = torch.randint(words, shape, generator=draw)
        there = there or [part.numpy() for part in state]
        here = window(tokens, *state)
        said, *there = session.run(None, dict(zip(names, (tokens.numpy(), *there), strict=True)))
        pairs = zip(here, (said, *there), strict=True)
        largest = max(largest, *(float(np.abs(one.numpy() - other).max()) for one, other in pairs))
        state = list(here[1:])
    return largest


def _state(model: nn.Module, batch: int) -> list[Tensor]:
    return hidden_tensors(model.initial_hidden(batch)) if isinstance(model, LanguageModel) else []


def _names(model: nn.Module, before: str, after: str) -> tuple[list[str], list[str]]:
    """The names of a graph's inputs and outputs."""
    count = len(_state(model, 1))
    said = "log_probabilities" if count else "logits"
    return ["tokens", *(f"{before}_{k}" for k in range(count))], [said, *(f"{after}_{k}" for k in range(count))]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks: `largest_difference` tells whether they were right."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
