"""Milliseconds of a training step of every model: every precision, eager, with Triton kernels, captured, and both."""

from functools import partial

from benchmarks.gpu.peer import PlainStep
from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import MODELS, Place, Workload, peak_megabytes, release, step_milliseconds, switches

VARIANTS = {"eager": (), "fused": ("fused",), "graph": ("graph",), "fused, graph": ("fused", "graph")}
PRECISIONS = ("fp32", "tf32", "bf16")
BARS = {"stacked_lstm": 3.5, "rhn": 13.0, "on_lstm": 20.0, "awd_lstm_mos": 16.0}  # ms, the fastest of all
BESIDE_PEER = 1.05
OF_EAGER = {"rhn": 0.2, "on_lstm": 0.2}  # at equal precision
WARM_UP = 8  # the kernels are compiled, the step is captured
LEAST = 90.0  # seconds that are left for profiles and several runs at once

Times = dict[tuple[str, str, str], float]


def measure(report: Report, place: Place) -> None:
    """A row for each combination that there is time for, and for each model the fastest beside its bar."""
    variants = VARIANTS if place.cuda else {"eager": ()}
    for precision in PRECISIONS if place.cuda else ("fp32",):
        for model in MODELS:
            for variant, on in variants.items():
                what = f"{model}, {precision}, {variant}"
                report.attempt(what, partial(_time, report, place, model, precision, what, on), LEAST)
        report.attempt(f"plain torch LSTM, {precision}", partial(_beside_peer, report, place, precision), LEAST)
    report.attempt("the fastest steps", lambda: _summary(report, _times(report)))


def _times(report: Report) -> Times:
    """Milliseconds by model, precision and variant, in rows of other processes too."""
    names = [(model, precision, variant) for model in MODELS for precision in PRECISIONS for variant in VARIANTS]
    return {name: ms for name in names if (ms := report.ms(", ".join(name))) is not None}


def _time(report: Report, place: Place, model: str, precision: str, what: str, on: tuple[str, ...]) -> None:
    release(place)
    step = Workload(place, model, f"precision={precision}", *(switches(on) if place.cuda else []))
    ms = step_milliseconds(place, step, WARM_UP)
    report.row(what, ms=ms, tokens_per_second=round(1e3 * step.tokens / ms), peak_mib=peak_megabytes(place))


def _beside_peer(report: Report, place: Place, precision: str) -> None:
    """Our stacked LSTM beside plain torch with cuDNN, fused SGD and clipping, at equal precision."""
    release(place)
    peer = step_milliseconds(place, PlainStep(place, precision), WARM_UP)
    report.row(f"plain torch LSTM, {precision}", ms=peer, peak_mib=peak_megabytes(place))
    for variant in VARIANTS:
        ours = report.ms(f"stacked_lstm, {precision}, {variant}")
        if ours is not None:
            report.row(f"stacked_lstm / plain, {precision}, {variant}", ratio=ours / peer, bar=BESIDE_PEER)


def _summary(report: Report, times: Times) -> None:
    for model, bar in BARS.items():
        own = {key[1:]: ms for key, ms in times.items() if key[0] == model}
        if own:
            (precision, variant), ms = min(own.items(), key=lambda item: item[1])
            report.row(f"{model}, fastest: {precision}, {variant}", ms=ms, bar=bar)
        for precision in PRECISIONS:
            alike = {variant: ms for (own_precision, variant), ms in own.items() if own_precision == precision}
            if model in OF_EAGER and len(alike) > 1 and "eager" in alike:
                variant, ms = min(alike.items(), key=lambda item: item[1])
                ratio = ms / alike["eager"]
                report.row(f"{model}, {variant} / eager, {precision}", ratio=ratio, bar=OF_EAGER[model])
