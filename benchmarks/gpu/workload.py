"""The trainer of a run at its paper's size, on random tokens, and the time that its parts take."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.core.device import set_up_device
from sparse_rnn.data.corpus import Corpus, Vocabulary
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.trainer import Trainer

MODELS = ("stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos")
DATA = {"awd_lstm_mos": "wikitext2"}  # Penn Treebank for the others
WINDOWS = 90  # in an epoch: more than are ever timed, so that no epoch ends
VALID_TOKENS = 73_760  # of Penn Treebank


@dataclasses.dataclass(frozen=True)
class Place:
    """Where to measure. small: the networks of budget=smoke, only to try the benchmark."""

    device: torch.device
    small: bool

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has nothing to do."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


class Workload:
    """A run's trainer; calling it trains on the next window, at most WINDOWS times.

    All windows have the same length, so that a step can be captured; the papers' random lengths have the same mean.
    """

    def __init__(self, place: Place, model: str, *more: str, windows: int = WINDOWS) -> None:
        self.place = place
        dataset = "pydoc" if place.small else DATA.get(model, "ptb")
        given = [f"model={model}", f"dataset={dataset}", "training.variable_bptt=false", "training.max_bptt=null"]
        given += ["logger=files", "logger.every=100000", "sparsifier.backend=masked"]
        given += ["budget=smoke"] if place.small else []
        self.run: Run = compose_run([*given, f"device={place.device}", *more])
        set_up_device(place.device, self.run.precision, deterministic=False)
        self._folder = tempfile.TemporaryDirectory()
        training = self.run.training
        length = training.batch * (training.bptt * windows + 1)
        corpus = random_corpus(500 if place.small else self.run.dataset.sizes()[0], length, 600 if place.small else 0)
        self.trainer = Trainer(self.run, corpus, RunFolder(Path(self._folder.name)), place.device)
        self.trainer.batches = self.trainer.task.batches(0)
        self._windows = self.trainer.batches.after(0)

    def __call__(self) -> None:
        """One training step, as the trainer takes it; nothing waits for it."""
        self.trainer.train_step(next(self._windows))

    @property
    def tokens(self) -> int:
        """That a step reads."""
        return self.run.training.batch * self.run.training.bptt


def random_corpus(words: int, train: int, other: int = 0) -> Corpus:
    """Random token numbers; `other`: tokens of each other split, by default those of Penn Treebank's validation."""
    drawn = torch.Generator().manual_seed(1)
    sizes = {"train": train, "valid": other or VALID_TOKENS, "test": other or VALID_TOKENS}
    splits = {name: torch.randint(words, (size,), generator=drawn) for name, size in sizes.items()}
    return Corpus(Vocabulary(map(str, range(words))), splits, "random")


def step_milliseconds(place: Place, step: Callable[[], None], warm_up: int, seconds: float = 1.0) -> float:
    """Mean time of a step among steps that follow each other without a wait, after `warm_up` ones.

    As many are timed as take about `seconds`, from 5 to 60 (where small, 5).
    """
    for _ in range(warm_up):
        step()
    place.wait()
    started = time.perf_counter()
    step()
    place.wait()
    count = 5 if place.small else max(5, min(60, int(seconds / (time.perf_counter() - started))))
    started = time.perf_counter()
    for _ in range(count):
        step()
    place.wait()
    return 1e3 * (time.perf_counter() - started) / count


def once_milliseconds(place: Place, action: Callable[[], object], rounds: int = 1) -> float:
    """Median time of an action that is waited for."""
    times = []
    for _ in range(rounds):
        place.wait()
        started = time.perf_counter()
        action()
        place.wait()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def release(place: Place) -> None:
    """Give memory back, and begin to count its peak anew."""
    import gc

    gc.collect()
    if place.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place.device)


def peak_megabytes(place: Place) -> int | None:
    """The most memory that tensors took since `release`, in MiB; None on a CPU."""
    return torch.cuda.max_memory_allocated(place.device) >> 20 if place.cuda else None


def switches(names: Sequence[str]) -> list[str]:
    """Overrides that switch on what is named, `fused` and `graph`, and the rest off."""
    return [f"training.{name}={'on' if name in names else 'off'}" for name in ("fused", "graph")]
