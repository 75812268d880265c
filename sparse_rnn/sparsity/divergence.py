"""Notices weights and gradients that are no longer finite numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import Diverged

READ_EVERY = 50  # steps; a GPU would have to be waited for
NEVER = 2**62


class Divergence:
    """Looks at parameters after each step. One that lies on a GPU is reported some steps later, with the right step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self._first: dict[torch.device, Tensor] = {}  # the first step after which not all were finite, int64 []

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Look at the parameters after a step. Raises Diverged."""
        for (device, dtype), parameters in self._by_kind().items():
            norms = torch._foreach_norm(parameters, dtype=torch.float32 if dtype.itemsize < 4 else None)
            if device not in self._first:
                self._first[device] = torch.tensor(NEVER, device=device)
            first = self._first[device]
            self._first[device] = torch.where(torch.stack(norms).isfinite().all(), first, first.clamp(max=step))
        self.read(device_type="cpu" if step % READ_EVERY else None)

    def read(self, device_type: str | None = None) -> None:
        """Raise Diverged if a parameter was not finite when it was looked at, on devices of this type or on all."""
        devices = [device for device in self._first if device_type in (None, device.type)]
        steps = [int(self._first[device]) for device in devices]
        if min(steps, default=NEVER) < NEVER:
            self._first.clear()
            for name, parameter in self._parameters.items():
                refuse_odd(name, parameter, min(steps))  # all of them are finite where only their norm overflowed

    def _by_kind(self) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
        found: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for parameter in self._parameters.values():
            if parameter.numel():
                found.setdefault((parameter.device, parameter.dtype), []).append(parameter.data)
        return found


def refuse_odd(name: str, tensor: Tensor, step: int) -> None:
    """Raise Diverged if an entry is not a finite number; name: what the tensor is called."""
    if kind := odd_value(tensor):
        raise Diverged(f"{name} became {kind} in step {step}: lower the learning rate or clip the gradients.")


def odd_value(tensor: Tensor) -> str:
    """`nan` or `inf` if a tensor has such an entry; empty if all are finite."""
    tensor = tensor.detach()
    if bool(tensor.isfinite().all()):
        return ""
    return "nan" if bool(tensor.isnan().any()) else "inf"
