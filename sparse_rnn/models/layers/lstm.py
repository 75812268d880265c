"""The LSTM of the models: nn.LSTM whose layers are called one at a time, with dropout of our own between them."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.backends import cudnn

from sparse_rnn.core.activations import ActivationListener
from sparse_rnn.models.layers.dropout import drop_connect
from sparse_rnn.models.layers.precision import product_dtype

State = tuple[Tensor, Tensor]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# With DropConnect, a layer's recurrent weight is new in every window, so that cuDNN has to copy the weights together.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")


class LSTM(nn.LSTM):
    """nn.LSTM with the same parameters. cuDNN never draws its dropout.

    The random state of dropout inside cuDNN can be neither saved nor restored (pytorch#104697).
    """

    activation_listener: ActivationListener | None = None

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """The last layer's output [T, B, h], and the last (h, c) of all layers, each [layers, B, h].

        inputs: [T, B, i]; state: (h, c) before, each [layers, B, h]; None: zeros.
        """
        if state is None:
            zeros = inputs.new_zeros(self.num_layers, inputs.shape[1], self.hidden_size)
            state = zeros, zeros
        output, carried = inputs, []
        for number, own in enumerate(zip(*(torch.split(part, 1) for part in state), strict=True)):
            if number:
                output = nn.functional.dropout(output, self.dropout, self.training)
            output, own = self.run_layer(number, output, own)
            carried.append(own)
        h, c = (torch.cat(part) for part in zip(*carried, strict=True))
        return output, (h, c)

    def run_layer(self, number: int, inputs: Tensor, state: State, drop: float = 0.0) -> tuple[Tensor, State]:
        """The output [T, B, h] and the last (h, c) of layer `number`.

        inputs: [T, B, i]; state: (h, c) before, each [1, B, h]. drop: share of recurrent weights dropped in training.
        """
        # The functional form, since nn.LSTM can only be called with its own, undropped parameters.
        of_input, recurrent, *biases = (getattr(self, f"{name}_l{number}") for name in WEIGHTS)
        weights = [of_input, drop_connect(recurrent, drop, self.training, inverted=True), *biases]
        dtype = product_dtype(of_input)
        if inputs.is_cuda and dtype != of_input.dtype:
            output, last = lstm_of_dtype(dtype, inputs, state, weights, self.training)
        else:
            output, last = _lstm(inputs, state, weights, self.training)
        if self.activation_listener is not None:
            self.activation_listener(of_input, inputs, output)
            self.activation_listener(recurrent, torch.cat([state[0], output[:-1]]), output)
        return output, last

    def flatten_parameters(self) -> None:
        """Place each layer's weights in one piece of memory, where cuDNN reads them without a copy.

        nn.LSTM places those of all layers in one piece, which cuDNN cannot use for a single layer.
        """
        flat = [weight for weight in self._flat_weights if isinstance(weight, Tensor)]
        if not all(weight.is_cuda and cudnn.is_acceptable(weight) for weight in flat):  # type: ignore[no-untyped-call]
            return
        mode = cudnn.rnn.get_cudnn_mode("LSTM")  # type: ignore[no-untyped-call]
        with torch.cuda.device(flat[0].device), torch.no_grad():
            for start in range(0, len(flat), len(WEIGHTS)):
                layer = flat[start : start + len(WEIGHTS)]
                inputs = layer[0].shape[1]
                torch._cudnn_rnn_flatten_weight(layer, len(WEIGHTS), inputs, mode, self.hidden_size, 0, 1, False, False)


def lstm_of_dtype(
    dtype: torch.dtype, inputs: Tensor, state: State, weights: Sequence[Tensor], training: bool
) -> tuple[Tensor, State]:
    """One layer computed in `dtype`, which output and state have, too; gradients have the dtypes of what is given.

    Under autocast, whatever its dtype, torch computes LSTMs of cuDNN in float16, where small gradients become zero.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        h, c = (part.to(dtype) for part in state)
        return _lstm(inputs.to(dtype), (h, c), [weight.to(dtype) for weight in weights], training)


def _lstm(inputs: Tensor, state: State, weights: Sequence[Tensor], training: bool) -> tuple[Tensor, State]:
    output, h, c = torch.lstm(inputs, state, list(weights), True, 1, 0.0, training, False, False)
    return output, (h, c)
