"""The LSTM of the models: nn.LSTM, with layers that can be run one at a time."""

import torch
from torch import Tensor, nn

from sparse_rnn.models.layers.dropout import drop_connect

State = tuple[Tensor, Tensor]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LSTM(nn.LSTM):
    """nn.LSTM with the same parameters; `run_layer` runs a single layer of it."""

    def run_layer(self, number: int, inputs: Tensor, state: State, drop: float = 0.0) -> tuple[Tensor, State]:
        """The output [T, B, h] and the last (h, c) of layer `number`.

        inputs: [T, B, i]; state: (h, c) before, each [1, B, h]. drop: share of recurrent weights dropped in training.
        """
        # The functional form, since nn.LSTM can only be called with its own, undropped parameters.
        of_input, recurrent, *biases = (getattr(self, f"{name}_l{number}") for name in WEIGHTS)
        weights = [of_input, drop_connect(recurrent, drop, self.training, inverted=True), *biases]
        output, h, c = torch.lstm(inputs, state, weights, True, 1, 0.0, self.training, False, False)
        return output, (h, c)
