"""A training step that is recorded once and replayed, so that the host no longer launches every kernel of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from sparse_rnn.data.batches import Batch
from sparse_rnn.models.base import hidden_tensors, map_hidden
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.sparsifier import Clock
from sparse_rnn.training.step import TrainingStep

WARM_UP = 3  # steps on batches of one shape before it is recorded: kernels are compiled, optimizer state is made


class Recorder(Protocol):
    """Records work on a device and returns a function that repeats it on the same memory."""

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]: ...


class CUDAGraphs:
    """Records work as CUDA graphs, which share one pool of memory: only one of them is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        # Work of other streams cannot be recorded, and autograd remembers the stream that first used a parameter:
        # from now on all work of the process is on one stream of its own.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        torch.cuda.set_stream(self._stream)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        if not self._graphs:  # torch refuses a pool whose graphs are all gone
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Threads that write files may go on with CUDA calls of theirs meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        self._graphs.add(graph)
        replay: Callable[[], None] = graph.replay
        return replay


class CapturedStep:
    """Replays a TrainingStep for every batch shape that recurs; variable windows have a record for each length.

    A replay repeats the recorded work on the recorded memory. So inputs, targets, hidden state and learning rates are
    copied into tensors that stay; a step in which the host takes part, as when dense gradients or activations are kept
    for an update, is computed afresh; and all records are made anew once the step works on other tensors, as when
    averaging begins. The first step on these is computed, since no kernel can be compiled or loaded while a step is
    recorded.
    Random numbers continue as without records: torch advances its generator by what a replay draws.
    """

    def __init__(self, step: TrainingStep, record: Recorder) -> None:
        self._step, self._record = step, record
        step.read_rates_on_device()
        self._seen: Counter[torch.Size] = Counter()
        self._records: dict[torch.Size, tuple[Batch, Callable[[], None]]] = {}
        self._memory: tuple[int, ...] = ()
        self._hidden: Any = None

    def __call__(self, batch: Batch, hidden: Any, clock: Clock) -> Any:
        """As TrainingStep. The hidden state that it returns may be overwritten by the next call."""
        with self._step.learning_rates(batch):
            if self._needs_host(clock):
                return self._step.compute(batch, hidden, clock)
            shape = batch.inputs.shape
            self._seen[shape] += 1
            if self._forget_if_moved() or (shape not in self._records and self._seen[shape] <= WARM_UP):
                return self._step.compute(batch, hidden, clock)
            self._place(hidden)
            if shape in self._records:
                self._count_optimizer_step()
            else:
                self._records[shape] = self._recorded(batch, clock)
            own, replay = self._records[shape]
            own.inputs.copy_(batch.inputs)
            own.targets.copy_(batch.targets)
            replay()
            return self._hidden

    @property
    def fused(self) -> bool:
        """Whether Triton kernels compute."""
        return self._step.fused

    def _needs_host(self, clock: Clock) -> bool:
        optimizer = self._step.optimizer
        waits = isinstance(optimizer, AveragedSGD) and not optimizer.next_step_is_plain
        return waits or self._step.sparsifier.keeps_signals(clock)

    def _count_optimizer_step(self) -> None:
        """What the optimizer counts on the host; while a step is recorded, it does so itself."""
        if isinstance(self._step.optimizer, AveragedSGD):
            self._step.optimizer.count_step()

    def _place(self, hidden: Any) -> None:
        """Copy the hidden state into the memory that records read it from and write it to."""
        if self._hidden is None:
            self._hidden = map_hidden(torch.clone, hidden)
        for own, given in zip(hidden_tensors(self._hidden), hidden_tensors(hidden), strict=True):
            if own is not given:
                own.copy_(given)

    def _recorded(self, batch: Batch, clock: Clock) -> tuple[Batch, Callable[[], None]]:
        own = Batch(batch.index, batch.inputs.clone(), batch.targets.clone())

        def work() -> None:
            after = self._step.compute(own, self._hidden, clock)
            for old, new in zip(hidden_tensors(self._hidden), hidden_tensors(after), strict=True):
                old.copy_(new)

        return own, self._record(work)

    def _forget_if_moved(self) -> bool:
        """Drop all records if the step works on other tensors than the last time; returns whether it does."""
        memory = tuple(tensor.data_ptr() for tensor in self._tensors())
        if moved := memory != self._memory:
            self._memory = memory
            self._records.clear()
        return moved

    def _tensors(self) -> Iterator[Tensor]:
        """All tensors that outlive a step and that it reads or writes."""
        for group in self._step.optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter
                state = self._step.optimizer.state.get(parameter, {})
                yield from (value for value in state.values() if isinstance(value, Tensor))
        if isinstance(self._step.optimizer, AveragedSGD):
            yield from self._step.optimizer.sums
        yield from self._step.sparsifier.lasting_tensors
