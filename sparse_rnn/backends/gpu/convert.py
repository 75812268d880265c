"""Conversion of a model to the Triton kernels."""

from torch import nn

from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer


def use_triton(model: nn.Module) -> None:
    """Let recurrences and the mixture of softmaxes compute with Triton kernels on the current device; needs triton.

    Parameters stay as they are.
    """
    from sparse_rnn.backends.gpu.highway import TritonHighwayCell
    from sparse_rnn.backends.gpu.mixture import TritonRowSoftmax
    from sparse_rnn.backends.gpu.ordered_neurons import TritonOrderedNeuronsCell

    for module in model.modules():
        if isinstance(module, HighwayRecurrence):
            module.cell = TritonHighwayCell()
        elif isinstance(module, ONLSTMLayer):
            module.cell = TritonOrderedNeuronsCell()
        elif isinstance(module, Decoder):
            module.row_softmax = TritonRowSoftmax
