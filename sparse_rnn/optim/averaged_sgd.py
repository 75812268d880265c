"""NT-ASGD and SNT-ASGD: SGD whose weights, once triggered, are averaged for evaluation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Average:
    """Running sum of one parameter's values; `since` indexes, per entry, the event its sum began at (None: event 0)."""

    total: Tensor
    since: Tensor | None = None


class AveragedSGD(torch.optim.SGD):
    """SGD, then the average of its iterates (Selfish-RNN section 3.2 and Eq. 5; Merity et al. 2018).

    With `sparse`, an entry that is removed or grown begins its average anew, so that after K steps
    its average is sum_{t=T_i}^{K} w_t / (K - T_i + 1), T_i the first step after its last activation or after the
    trigger, whichever is later (SNT-ASGD). Without it, averages keep their history (NT-ASGD).
    `skip_first` leaves out the first value of each sum if there are more, as torch.optim.ASGD(t0=0) does.
    Parameters without a gradient are averaged too: they are constant.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        *,
        sparse: bool = True,
        skip_first: bool = False,
    ) -> None:
        parameters = list(params)
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
        self.sparse, self.skip_first = sparse, skip_first
        self.steps = 0
        self._events: list[int] = []
        self._averages: list[Average] = []

    @property
    def averaging(self) -> bool:
        """Whether the average has been triggered and has at least one value."""
        return bool(self._events) and self.steps > self._events[0]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order of the averages."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def start_averaging(self) -> None:
        """Begin all averages with the next step's values; called again, begin them anew."""
        self._events = [self.steps]
        self._averages = [Average(torch.zeros_like(p)) for p in self.parameters]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One SGD step and, once triggered, one addition to the sums."""
        loss = super().step(closure)
        self.steps += 1
        if self._events:
            second = self._events.index(self.steps - 2) if self.steps - 2 in self._events else None
            for parameter, average in zip(self.parameters, self._averages, strict=True):
                average.total.add_(parameter)
                if self.skip_first and second is not None:
                    self._forget_first(parameter, average, second)
        return loss

    def _forget_first(self, parameter: Tensor, average: Average, event: int) -> None:
        if average.since is not None:
            average.total[average.since == event] = parameter[average.since == event]
        elif event == 0:
            average.total.copy_(parameter)

    @torch.no_grad()
    def restart_entries(self, parameter: nn.Parameter, restart: Tensor) -> None:
        """Begin the averages of the entries in `restart` (bool, of the parameter's shape) with the next step."""
        if not (self.sparse and self._events):
            return
        average = self._average_of(parameter)
        if self._events[-1] != self.steps:
            self._events.append(self.steps)
        dtype = torch.int16 if len(self._events) <= torch.iinfo(torch.int16).max else torch.int32
        since = torch.zeros_like(parameter, dtype=dtype) if average.since is None else average.since.to(dtype)
        average.total.masked_fill_(restart, 0.0)
        average.since = since.masked_fill_(restart, len(self._events) - 1)

    def carry_entries(self, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None:
        """Move the averages of a parameter whose entries are stored anew: see `optimizer_state.carry_entries`."""
        if self._averages:
            average = self._average_of(parameter)
            average.total = carry(average.total)
            average.since = None if average.since is None else carry(average.since)

    def _average_of(self, parameter: nn.Parameter) -> Average:
        return self._averages[next(i for i, p in enumerate(self.parameters) if p is parameter)]

    def _mean(self, average: Average) -> Tensor:
        counts = self.steps - torch.tensor(self._events, dtype=torch.float64, device=average.total.device)
        if self.skip_first:
            counts = torch.where(counts > 1, counts - 1, counts)
        counts = counts.clamp(min=1).to(average.total.dtype)
        return average.total / (counts[0] if average.since is None else counts[average.since.int()])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in the parameters' place, if there are any; the raw values come back in any case."""
        if not self.averaging:
            yield
            return
        raw: list[Tensor] = []
        try:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self._averages, strict=True):
                    raw.append(parameter.clone())
                    parameter.copy_(self._mean(average))
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, raw, strict=False):
                    parameter.copy_(value)

    def __getstate__(self) -> dict[str, Any]:
        own = ("sparse", "skip_first", "steps", "_events", "_averages")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def state_dict(self) -> dict[str, Any]:
        """SGD's state and the averages."""
        averages = [{"total": a.total, "since": a.since} for a in self._averages]
        return {**super().state_dict(), "steps": self.steps, "events": list(self._events), "averages": averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, on the parameters' devices."""
        own = {key: state_dict[key] for key in ("steps", "events", "averages")}
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in own})
        self.steps, self._events = own["steps"], list(own["events"])
        self._averages = [
            Average(a["total"].to(p.device), None if a["since"] is None else a["since"].to(p.device))
            for p, a in zip(self.parameters, own["averages"], strict=bool(own["averages"]))
        ]
