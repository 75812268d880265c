"""One update of the topology, in milliseconds and in steps of the same model; and what the end of an epoch takes."""

from functools import partial

from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import Place, Workload, once_milliseconds, release, step_milliseconds, switches
from sparse_rnn.sparsity.sparsifier import Clock
from sparse_rnn.training.writer import Writer

METHODS = {"selfish": [], "set": [], "rigl": [], "gmp": ["sparsifier.prune_start=0"]}
STEPS_OF_AN_UPDATE = 20
SECOND = 1000.0


def measure_updates(report: Report, place: Place) -> None:
    """The second update of the stacked LSTM by several methods; the first one loads kernels."""
    for method, more in METHODS.items():
        report.attempt(method, partial(_update, report, place, method, more))


def measure_epoch_end(report: Report, place: Place) -> None:
    """Validation, update and checkpoint of the stacked LSTM; the files are written while training goes on."""
    report.attempt("epoch's end", partial(_epoch_end, report, place))


def _update(report: Report, place: Place, method: str, more: list[str]) -> None:
    release(place)
    work = _workload(place, f"sparsifier={method}", *more)
    step = step_milliseconds(place, work, 5, 0.3)
    first, ms = (_update_milliseconds(work, epoch) for epoch in (30, 31))
    report.row(f"update, {method}", ms=ms, first_ms=round(first, 3), step_ms=round(step, 3))
    report.row(f"update, {method}, in steps", ratio=ms / step, bar=STEPS_OF_AN_UPDATE)


def _epoch_end(report: Report, place: Place) -> None:
    release(place)
    work = _workload(place, "sparsifier=selfish")
    for _ in range(5):
        work()
    trainer = work.trainer
    trainer.writer = Writer(place.device)
    for again in ("first", "second"):
        parts = {
            "validation": once_milliseconds(place, trainer.evaluate_and_keep_best),
            "update": _update_milliseconds(work, 30 if again == "first" else 31),
            "checkpoint": once_milliseconds(place, trainer.save),
        }
        written = once_milliseconds(place, trainer.writer.wait)
        facts = {f"{name}_ms": round(ms, 1) for name, ms in parts.items()}
        bar = SECOND if again == "second" else None
        report.row(f"epoch's end, {again}", ms=sum(parts.values()), bar=bar, **facts, files_ms=round(written, 1))


def _workload(place: Place, *more: str) -> Workload:
    return Workload(place, "stacked_lstm", *more, *(switches(()) if place.cuda else []))


def _update_milliseconds(work: Workload, epoch: int) -> float:
    """An update at the end of an epoch, with the dense gradients of the last step for methods that read them."""
    clock = Clock(step=epoch * 1328, epoch=epoch - 1, epochs=100, batch=1328, batches=1328)
    sparsifier = work.trainer.sparsifier
    sparsifier.before_step(clock)
    return once_milliseconds(work.place, partial(sparsifier.update, clock))
