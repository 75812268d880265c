"""The LSTM of the models."""

import torch
from torch import Tensor, nn

from sparse_rnn.models.layers.dropout import drop_connect

State = tuple[Tensor, Tensor]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LSTM(nn.LSTM):
    """nn.LSTM whose layers can also be run one at a time."""

    def run_layer(self, number: int, inputs: Tensor, state: State, drop: float = 0.0) -> tuple[Tensor, State]:
        """Output [T, B, h] and (h, c) of a layer, given inputs [T, B, i] and (h, c), each [1, B, h].

        In training, `drop` of its recurrent weights are dropped; through the functional form, since nn.LSTM can only
        be called with its own parameters.
        """
        of_input, recurrent, *biases = (getattr(self, f"{name}_l{number}") for name in WEIGHTS)
        weights = [of_input, drop_connect(recurrent, drop, self.training, inverted=True), *biases]
        output, h, c = torch.lstm(inputs, state, weights, True, 1, 0.0, self.training, False, False)
        return output, (h, c)
