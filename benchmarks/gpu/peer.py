"""The stacked LSTM as one writes it with torch alone: cuDNN, fused SGD, clipping."""

import torch
from torch import nn

from benchmarks.gpu.workload import Place
from sparse_rnn.core.device import autocast, set_up_device


class PlainStep:
    """A training step at the paper's size, 1,500 units in each of 2 layers, on random tokens."""

    def __init__(self, place: Place, precision: str) -> None:
        words, hidden, batch, window = (500, 16, 4, 10) if place.small else (10_000, 1500, 20, 35)
        set_up_device(place.device, precision, deterministic=False)
        self._device, self._precision = place.device, precision
        with place.device:
            self._embedding, self._decoder = nn.Embedding(words, hidden), nn.Linear(hidden, words)
            self._lstm, self._dropout = nn.LSTM(hidden, hidden, 2, dropout=0.65), nn.Dropout(0.65)
            self._tokens = torch.randint(words, (window + 1, batch))
            self._state = (torch.zeros(2, batch, hidden), torch.zeros(2, batch, hidden))
        modules = (self._embedding, self._lstm, self._decoder)
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        self._optimizer = torch.optim.SGD(self._parameters, lr=1.0, weight_decay=1.2e-6, fused=True)

    def __call__(self) -> None:
        """Forward, backward, clip, step; the state is carried on."""
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self._device, self._precision):
            output, (h, c) = self._lstm(self._dropout(self._embedding(self._tokens[:-1])), self._state)
            logits = self._decoder(self._dropout(output).flatten(0, 1))
            loss = nn.functional.cross_entropy(logits, self._tokens[1:].flatten())
        self._state = h.detach(), c.detach()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, 0.25)
        self._optimizer.step()
