"""NT-ASGD and SNT-ASGD: SGD whose weights are averaged for evaluation, from a trigger on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rnn.optim.portable_state import make_portable

# Each addition rounds off what is below the sum's last digit, of a weight that hardly moves always about the same: in
# float32, averages of 664,000 steps were wrong by up to 0.7 %. So a sum is emptied after this many steps.
FOLD = 256
PIECE = 1 << 20  # entries that are float64 at a time


@dataclass
class Average:
    """The running sum of one parameter's values, total + folded.

    total: the sum since the last fold, and what that one rounded off. folded: all before; None if there was no fold.
    since: for every entry, the index of the event at which its sum began; None if that is event 0 for all of them.
    """

    total: Tensor
    since: Tensor | None = None
    folded: Tensor | None = None

    def fold(self) -> None:
        """Move `total` into `folded`, except for the difference to the nearest value that `folded` can hold."""
        if self.folded is None:
            self.folded = torch.zeros_like(self.total)
        for folded, total in zip(_pieces(self.folded), _pieces(self.total), strict=True):
            exact = folded.double() + total
            folded.copy_(exact)
            total.copy_(exact.sub_(folded))

    def clear(self, entries: Tensor) -> None:
        """Make the sums of these entries zero; bool, of the parameter's shape."""
        for tensor in (self.total, self.folded):
            if tensor is not None:
                tensor.masked_fill_(entries, 0.0)

    def mean(self, counts: Tensor) -> Tensor:
        """The sums divided by the numbers of their values; counts: float64, by event."""
        mean = self.total.clone()
        pieces = _pieces(mean)
        since, folded = ([None] * len(pieces) if t is None else _pieces(t) for t in (self.since, self.folded))
        for part, event, earlier in zip(pieces, since, folded, strict=True):
            total = part.double() if earlier is None else earlier.double() + part
            part.copy_(total.div_(counts[0] if event is None else counts[event.int()]))
        return mean


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    """Views of a tensor, of about PIECE entries each."""
    rows = tensor if tensor.dim() else tensor[None]
    return torch.split(rows, max(1, PIECE * len(rows) // max(1, rows.numel())))


def _moved(tensor: Tensor | None, parameter: nn.Parameter) -> Tensor | None:
    """A tensor of a checkpoint, some of which are older than it is, on the device of its parameter."""
    return None if tensor is None else tensor.to(parameter.device)


class AveragedSGD(torch.optim.SGD):
    """SGD and, from a trigger on, the average of its iterates (Selfish-RNN section 3.2, Eq. 5; Merity et al. 2018).

    sparse: the average of an entry restarts when the entry is removed or grown (SNT-ASGD). After K steps it is
    sum_{t=T_i}^{K} w_t / (K - T_i + 1), with T_i the first step after the entry's last activation or after the trigger,
    whichever is later. Otherwise averages keep their history (NT-ASGD).
    skip_first: leave out the first value of each sum if there are others, as torch.optim.ASGD(t0=0) does.
    Parameters without a gradient, which are constant, are averaged too.

    A step can be captured in a CUDA graph if its learning rates are 0-dim float32 tensors on the device and
    `next_step_is_plain`: then it only changes the parameters and `sums`. Every replay is followed by `count_step`.
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
        make_portable(self)
        self.sparse, self.skip_first = sparse, skip_first
        self.steps = 0
        # T_i takes few values: all entries of an update share theirs. So the steps at which sums began are kept once,
        # as events (the trigger is event 0), and an entry keeps the index of its event, in two bytes.
        self._events: list[int] = []
        self._averages: list[Average] = []
        self._raw: list[Tensor] = []  # what parameters held before `averaged`, while that is entered

    @property
    def averaging(self) -> bool:
        """Whether averaging was triggered and there is at least one value to average."""
        return bool(self._events) and self.steps > self._events[0]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order of the averages."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def sums(self) -> list[Tensor]:
        """What a step adds the parameters to, in their order; empty before the trigger. Folds empty them.

        The tensors stay the same until a state is loaded or entries are carried to another storage.
        """
        return [average.total for average in self._averages]

    @property
    def next_step_is_plain(self) -> bool:
        """Whether the next step does nothing but move the parameters and add them to `sums`.

        Otherwise it also leaves out the first value of some sums (`skip_first`), or folds them; which is known on the
        host.
        """
        return not (self._next_step_leaves_out or self._next_step_folds)

    @property
    def _next_step_leaves_out(self) -> bool:
        return self.skip_first and self.steps - 1 in self._events[-2:]

    @property
    def _next_step_folds(self) -> bool:
        # By the number of all steps, so that a resumed run folds when an uninterrupted one does.
        return bool(self._averages) and (self.steps + 1) % FOLD == 0

    def count_step(self) -> None:
        """Count a step that was done without `step`, as by the replay of a captured one."""
        self.steps += 1

    @torch.no_grad()
    def start_averaging(self) -> None:
        """Start all averages with the values after the next step; called again, restart them."""
        self._events = [self.steps]
        sums = [total.zero_() for total in self.sums] or [torch.zeros_like(p) for p in self.parameters]
        self._averages = [Average(total) for total in sums]  # without what they had folded

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One SGD step and, once triggered, one addition to the sums."""
        loss = super().step(closure)
        if self.sums:
            torch._foreach_add_(self.sums, list[Tensor](self.parameters))
        if self._next_step_leaves_out:
            self._forget_first(self._events.index(self.steps - 1))
        if self._next_step_folds:
            for average in self._averages:
                average.fold()
        self.count_step()
        return loss

    def _forget_first(self, event: int) -> None:
        """Sums that began at `event` have two values now: leave the second one only."""
        for parameter, average in zip(self.parameters, self._averages, strict=True):
            if average.since is not None:
                begun = average.since == event
                average.clear(begun)
                average.total.copy_(torch.where(begun, parameter, average.total))
            elif event == 0:
                average.total.copy_(parameter)
                average.folded = None

    @torch.no_grad()
    def restart_entries(self, parameter: nn.Parameter, restart: Tensor) -> None:
        """Restart the averages of the entries in `restart` (bool, of the parameter's shape) with the next step.

        Nothing happens without `sparse` or before the trigger.
        """
        if not (self.sparse and self._events):
            return
        average = self._averages[self._index_of(parameter)]
        if self._events[-1] != self.steps:
            self._events.append(self.steps)
        dtype = torch.int16 if len(self._events) <= torch.iinfo(torch.int16).max else torch.int32
        since = torch.zeros_like(parameter, dtype=dtype) if average.since is None else average.since.to(dtype)
        average.clear(restart)
        average.since = since.masked_fill_(restart, len(self._events) - 1)

    def carry_entries(self, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None:
        """Replace the averages of a parameter, whose entries are stored anew, by `carry` of them."""
        index = self._index_of(parameter)
        if self._averages:
            average = self._averages[index]
            average.total = carry(average.total)
            average.since = None if average.since is None else carry(average.since)
            average.folded = None if average.folded is None else carry(average.folded)
        if self._raw:
            self._raw[index] = carry(self._raw[index])

    def _index_of(self, parameter: nn.Parameter) -> int:
        return next(i for i, p in enumerate(self.parameters) if p is parameter)

    def _mean(self, average: Average) -> Tensor:
        """The averages of a parameter's entries; an entry that has no value since it grew is zero."""
        counts = self.steps - torch.tensor(self._events, dtype=torch.float64, device=average.total.device)
        if self.skip_first:
            counts = torch.where(counts > 1, counts - 1, counts)
        return average.mean(counts.clamp(min=1))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While entered, parameters hold their averages, if there are any; the raw values always come back."""
        if not self.averaging:
            yield
            return
        self._raw = []
        try:
            with torch.no_grad():
                for parameter, average in zip(self.parameters, self._averages, strict=True):
                    self._raw.append(parameter.data.clone())
                    parameter.copy_(self._mean(average))
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, self._raw, strict=False):
                    parameter.copy_(value)
            self._raw = []

    def __getstate__(self) -> dict[str, Any]:
        own = ("sparse", "skip_first", "steps", "_events", "_averages")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}, "_raw": []}

    def state_dict(self) -> dict[str, Any]:
        """The state of SGD, and `steps`, `events` and `averages`."""
        of_sgd = super().state_dict()  # first: hooks may change how entries are stored
        averages = [{"total": a.total, "since": a.since, "folded": a.folded} for a in self._averages]
        return {**of_sgd, "steps": self.steps, "events": list(self._events), "averages": averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, on the parameters' devices. Raises ValueError if it does not fit."""
        own = {key: state_dict[key] for key in ("steps", "events", "averages")}
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in own})
        self.steps, self._events = own["steps"], list(own["events"])
        self._averages = [
            Average(a["total"].to(p.device), _moved(a["since"], p), _moved(a.get("folded"), p))
            for p, a in zip(self.parameters, own["averages"], strict=bool(own["averages"]))
        ]
