"""Device hours of what is left to do, from how fast earlier runs were."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sparse_rnn.core.shapes import is_finite
from sparse_rnn.core.wording import counted, one_line, scientific
from sparse_rnn.data.labels import dataset_name

SHAPE = ("batch", "bptt", "sub_batch")  # the keys of `training` that decide how much a device computes at a time


class Throughput:
    """Training tokens per second, by the shape of a run and by device.

    Runs have the same shape if they share the model with all its sizes, data set, optimizer and batch shape. Their
    speed is the sum of their tokens over the sum of their seconds, so that very short runs, which are slow, weigh
    little. It is that of training steps alone: validation, tests and the start of a process come on top.
    """

    def __init__(self, measured: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
        self._measured = {
            shape: {device: sum(t for t, _ in runs) / sum(s for _, s in runs) for device, runs in by_device.items()}
            for shape, by_device in measured.items()
        }

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """The throughput in the records of measured runs; records without one are skipped."""
        measured: defaultdict[str, defaultdict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for record in records:
            speed, seconds, device = record.get("tokens_per_second", 0), record.get("seconds", 0), device_of(record)
            if device and all(is_finite(number) and number > 0 for number in (speed, seconds)):
                measured[_shape(record["config"])][device].append((speed * seconds, seconds))
        return cls(measured)

    def hours(self, config: Mapping[str, Any], tokens: float) -> dict[str, float]:
        """Hours that a run needs for `tokens` training tokens, by device where a run of its shape was measured."""
        known = self._measured.get(_shape(config), {})
        return {device: tokens / speed / 3600 for device, speed in known.items()}


def device_of(record: Mapping[str, Any]) -> str | None:
    """The device of a run by its maker's name, for CPUs with the number of threads; None if it is not recorded."""
    name, kind = record.get("environment", {}).get("device_name"), record.get("device")
    if not name or not kind:
        return None
    if kind != "cpu":
        return one_line(str(name))
    threads = record.get("threads")
    return f"{one_line(str(name))}, {counted(threads, 'thread') if threads else 'unknown threads'}"


def _shape(config: Mapping[str, Any]) -> str:
    training = {key: config["training"].get(key) for key in SHAPE}
    names = [dataset_name(config["dataset"]), config["optimizer"]["name"]]
    return json.dumps([config["model"], training, names], sort_keys=True)


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that is not finished, and the share of it that remains, 0 to 1.

    tokens, flops: those of the whole training; None if the size of the data is not known.
    """

    config: Mapping[str, Any]
    tokens: int | None
    flops: float | None
    remaining: float = 1.0


def estimate(runs: Sequence[UnfinishedRun], throughput: Throughput) -> str:
    """What is left to do, in FLOPs and in hours of every device; one line per device if there are several."""
    if not runs:
        return "left: nothing"
    head = f"left: {counted(len(runs), 'run')}, {_flops(runs)}"
    hours = [{} if run.tokens is None else throughput.hours(run.config, run.tokens * run.remaining) for run in runs]
    devices = sorted({device for known in hours for device in known})
    if not devices:
        return f"{head}; device hours unknown: {_why_unknown(runs)}"
    lines = []
    for device in devices:
        known = [own[device] for own in hours if device in own]
        unknown = [run for run, own in zip(runs, hours, strict=True) if device not in own]
        why = f"{len(known)} of {counted(len(runs), 'run')}; {len(unknown)} unknown: {_why_unknown(unknown, ' there')}"
        lines.append(f"{_hours(sum(known))} on {device}{f' ({why})' if unknown else ''}")
    return ("; " if len(lines) == 1 else "\n").join([head, *lines])


def _hours(hours: float) -> str:
    return f"{hours:,.1f} device hours" if hours >= 0.1 else f"{60 * hours:.1f} device minutes"


def _flops(runs: Sequence[UnfinishedRun]) -> str:
    known = [run.flops * run.remaining for run in runs if run.flops is not None]
    if not known:
        return "FLOPs unknown"
    total = f"{scientific(sum(known))} FLOPs"
    return total if len(known) == len(runs) else f"{total} ({len(known)} of {counted(len(runs), 'run')})"


def _why_unknown(runs: Sequence[UnfinishedRun], where: str = "") -> str:
    unmeasured = {run.config["model"]["name"] for run in runs if run.tokens is not None}
    unsized = {run.config["dataset"]["name"] for run in runs if run.tokens is None}
    reasons = []
    if unmeasured:
        reasons.append(f"no earlier run of these sizes of {', '.join(sorted(unmeasured))}{where}")
    if unsized:
        reasons.append(f"the size of {', '.join(sorted(unsized))} is unknown")
    return ", ".join(reasons)
