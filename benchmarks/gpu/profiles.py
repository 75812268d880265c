"""Where a step's time goes on the GPU: how much of it the GPU computes, in how many launches, and in which kernels."""

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import MODELS, Place, Workload, release, step_milliseconds, switches

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
DEAREST = 8
LEAST = 15.0  # seconds


def measure(report: Report, place: Place) -> None:
    """One row for the eager step of each model, and one for the fastest kind of step; none without a GPU."""
    for variant, on in (("eager", ()), ("fused, graph", ("fused", "graph"))):
        for model in MODELS if place.cuda else ():
            what = f"profile, {model}, tf32, {variant}"
            report.attempt(what, partial(_profile, report, place, what, model, on), LEAST)


def _profile(report: Report, place: Place, what: str, model: str, on: tuple[str, ...]) -> None:
    release(place)
    step = Workload(place, model, "precision=tf32", *switches(on))
    ms = step_milliseconds(place, step, 8, 0.5)
    report.row(what, ms=ms, **_facts(place, step, ms))


def _facts(place: Place, step: Workload, ms: float) -> dict[str, Any]:
    """Of one step; `busy_share`: of the time that a step takes without the profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        step()
        place.wait()
    rows = profiled.key_averages()
    # The span of an optimizer's step is an annotation, whose kernels are rows of their own.
    on_device = [
        row for row in rows if row.device_type == torch.autograd.DeviceType.CUDA and not row.is_user_annotation
    ]
    busy = sum(row.self_device_time_total for row in on_device) / 1e3
    dearest = sorted(on_device, key=lambda row: -row.self_device_time_total)[:DEAREST]
    return {
        "launches": sum(row.count for row in rows if row.key.startswith(LAUNCHES)),
        "kernels": sum(row.count for row in on_device),
        "busy_ms": round(busy, 3),
        "busy_share": round(busy / ms, 3),
        "dearest": [[row.key[:90], row.count, round(row.self_device_time_total)] for row in dearest],
    }
