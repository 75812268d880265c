"""The one trainer."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from sparse_rnn.backends.choice import Choice, choose_backend
from sparse_rnn.backends.cpu.modules import use_sparse_kernels
from sparse_rnn.config.schema import Run
from sparse_rnn.core.device import restore_rng, rng_state
from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.data.base import Data
from sparse_rnn.data.batches import Batch
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.runs.weights import load_weights, save_weights
from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock, UpdateReport
from sparse_rnn.sparsity.statistics import large_weights, sparsities
from sparse_rnn.sparsity.topology import pack_bits
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier, make_task
from sparse_rnn.training.checkpoint import load_checkpoint, save_checkpoint
from sparse_rnn.training.loggers import JsonLines, Loggers, Terminal
from sparse_rnn.training.state import Diverged, RunState, Stopped
from sparse_rnn.training.tasks.base import Totals


class Trainer:
    """Trains one run in its folder, from its checkpoint if there is one. `read_only`: only to look at its state."""

    def __init__(
        self, run: Run, data: Data, folder: RunFolder, device: torch.device, *, read_only: bool = False
    ) -> None:
        self.run, self.folder = run, folder
        torch.manual_seed(run.init_seed)
        self.model = run.model.build(*data.sizes).to(device)
        self.task = make_task(run, data, self.model, device)
        self.topology = make_topology(run.sparsifier, self.model)
        self.optimizer = make_optimizer(run, self.model)
        self.schedule = run.optimizer.schedule(self.optimizer, run.training.epochs)
        self.sparsifier = make_sparsifier(run, self.topology, self.optimizer)
        self.backend = Choice("masked", "to look at it")
        if not read_only:
            self.backend = choose_backend(run, self.model, self.topology, device)
        if self.backend.name == "sparse":
            use_sparse_kernels(self.model, self.topology)
        self.state = RunState()
        self.hidden = self.task.initial_hidden()
        self.stop_requested, self.stop_signal = False, 0
        torch.manual_seed(run.seed)
        self.saved_by = self.backend.name
        saved = load_checkpoint(folder.checkpoint)
        if saved:
            self.restore(saved)
        if not read_only:
            self.rows = JsonLines(folder.metrics, cut_at=saved["metrics"] if saved else 0)

    def fit(self, loggers: Loggers, terminal: Terminal) -> dict[str, Any]:
        """Train to the end; returns the results. Raises Stopped once the state is saved, Diverged, OSError."""
        self.loggers, self.terminal, self.saved_at = loggers, terminal, time.monotonic()
        try:
            self.train_epochs()
        except Stopped:
            self.save()
            raise
        return self.finish()

    def train_epochs(self) -> None:
        """The loop."""
        state = self.state
        while state.epoch < self.run.training.epochs:
            self.batches = self.task.batches(state.epoch)
            for batch in self.batches.after(state.batch):
                self.train_step(batch)
                self.log_step(self.sparsifier.after_step(self.clock))
                self.stop_if_requested()
                self.save_if_due()
            valid = self.evaluate_and_keep_best()
            triggered = self.schedule.step(valid["valid/loss"], state.epoch + 1)
            report = self.sparsifier.after_epoch(self.clock, triggered=triggered)
            self.log_epoch(valid, report)
            state.next_epoch()
            self.hidden = self.task.initial_hidden()
            self.save()

    def train_step(self, batch: Batch) -> None:
        """Forward, backward, masked and clipped gradients, one optimizer step."""
        started = time.monotonic()
        self.optimizer.zero_grad(set_to_none=True)
        self.sparsifier.before_backward(self.clock_after(batch))
        totals, self.hidden = self.task.backward(batch, self.hidden)
        loss = totals.loss / totals.targets
        if not math.isfinite(loss):
            where = f"in epoch {self.state.epoch + 1}, step {self.state.step + 1}"
            raise Diverged(f"The training loss became {loss} {where}: lower optimizer.lr or training.clip.")
        state = self.state
        state.step, state.batch = state.step + 1, batch.index + 1
        self.sparsifier.before_step(self.clock)
        if self.run.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip)
        with self.learning_rate_scaled(batch):
            self.optimizer.step()
        state.totals.add(totals)
        state.tokens += totals.tokens
        state.recent_loss, state.recent_steps = state.recent_loss + loss, state.recent_steps + 1
        seconds = time.monotonic() - started
        state.seconds, state.epoch_seconds = state.seconds + seconds, state.epoch_seconds + seconds

    @contextmanager
    def learning_rate_scaled(self, batch: Batch) -> Iterator[None]:
        """With variable windows, the learning rate times length / bptt for one step (Merity et al. 2018)."""
        if not self.run.training.variable_bptt:
            yield
            return
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * batch.inputs.shape[0] / self.run.training.bptt
        yield
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    @property
    def clock(self) -> Clock:
        """How far training is."""
        state = self.state
        return Clock(state.step, state.epoch, self.run.training.epochs, state.batch, len(self.batches))

    def clock_after(self, batch: Batch) -> Clock:
        """How far training will be after a step on the coming batch."""
        return replace(self.clock, step=self.state.step + 1, batch=batch.index + 1)

    @contextmanager
    def evaluated_weights(self) -> Iterator[bool]:
        """The weights that are evaluated: the averages once there are any (yields True), sparse like the raw ones."""
        if not isinstance(self.optimizer, AveragedSGD) or not self.optimizer.averaging:
            yield False
            return
        with self.optimizer.averaged():
            self.topology.mask_weights()
            yield True

    def evaluate_and_keep_best(self) -> dict[str, Any]:
        """Validate; keep the weights if they are the best so far and as sparse as asked for."""
        state = self.state
        facts = self.large_weights("raw")
        with self.evaluated_weights() as averaged:
            valid = self.task.evaluate("valid", between=self.stop_if_requested)
            if not math.isfinite(valid["loss"]):
                raise Diverged(f"The validation loss became {valid['loss']} in epoch {state.epoch + 1}.")
            facts |= self.large_weights("evaluated")
            if self.sparsifier.at_target and (not state.best or self.task.better(valid, state.best)):
                state.best, state.best_epoch = valid, state.epoch + 1
                origin = {"epoch": str(state.best_epoch), "weights": "averaged" if averaged else "raw"}
                save_weights(self.folder.best, self.model, self.topology, origin)
            if self.run.snapshots.enabled:
                self.store_snapshot()
        return {**{f"valid/{k}": v for k, v in valid.items()}, "averaging/evaluated": int(averaged), **facts}

    def large_weights(self, kind: str) -> dict[str, Any]:
        """What is logged of large weights; kind: raw, or evaluated."""
        return {f"large_weights/{kind}/{name}": n for name, n in large_weights(self.model, self.topology).items()}

    def store_snapshot(self) -> None:
        """This epoch's masks, bit-packed, and hidden states on the first test tokens, float16 [tokens, units]."""
        tensors = {f"mask/{weight.name}": pack_bits(weight.mask) for weight in self.topology}
        states = self.task.snapshot(self.run.snapshots.tokens)
        tensors |= {f"hidden/{layer}": state.contiguous() for layer, state in enumerate(states)}
        shapes = {f"shape/{weight.name}": "x".join(map(str, weight.shape)) for weight in self.topology}
        self.folder.snapshots.mkdir(exist_ok=True)
        save_tensors(self.folder.snapshots / f"epoch{self.state.epoch + 1:04d}.safetensors", tensors, shapes)

    def log_step(self, report: UpdateReport | None) -> None:
        """A row of training loss now and then, and one for every topology update inside an epoch."""
        state, row = self.state, {}
        if state.recent_steps >= self.run.logger.every:
            row["train/loss_recent"] = state.recent_loss / state.recent_steps
            state.recent_loss, state.recent_steps = 0.0, 0
        if report:
            row |= update_facts(report) | self.sparsifier.facts(self.clock) | sparsities(self.topology)
        if row:
            self.loggers.row({"step": state.step, "epoch": state.epoch + 1, **row})
        speed = state.totals.tokens / state.epoch_seconds
        metrics = self.task.metrics(state.totals)
        self.terminal.step(state.epoch, self.clock.progress, metrics, speed, self.sparsifier.sparsity)

    def log_epoch(self, valid: dict[str, Any], report: UpdateReport | None) -> None:
        """The row of an epoch: sparsities after its update."""
        state = self.state
        train = {f"train/{k}": v for k, v in self.task.metrics(state.totals).items()}
        row = {
            **train,
            **valid,
            **self.schedule.facts(),
            **sparsities(self.topology),
            **(update_facts(report) if report else {}),
            **self.sparsifier.facts(self.clock),
            "rate/learning": self.optimizer.param_groups[0]["lr"],
            "throughput/tokens_per_second": state.totals.tokens / state.epoch_seconds,
        }
        self.loggers.row({"step": state.step, "epoch": state.epoch + 1, **row})

    def stop_if_requested(self) -> None:
        """Raise Stopped if a signal has asked for it."""
        if self.stop_requested:
            raise Stopped

    def save_if_due(self) -> None:
        """Save if the last checkpoint is old enough."""
        if time.monotonic() - self.saved_at >= 60 * self.run.checkpoint.every_minutes:
            self.save()

    def save(self) -> None:
        """Write all that is needed to go on as if nothing had happened."""
        state = {
            "backend": self.backend.name,
            **saved_states(self.model, self.optimizer, self.topology),
            "schedule": self.schedule.state_dict(),
            "sparsifier": self.sparsifier.state_dict(),
            "state": asdict(self.state),
            "hidden": self.hidden,
            "rng": rng_state(),
            "metrics": self.rows.position(),
        }
        save_checkpoint(self.folder.checkpoint, state)
        self.saved_at = time.monotonic()

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint; raises DamagedFile if it is not of this run."""
        try:
            self.saved_by = saved.get("backend", "masked")
            self.sparsifier.load_state_dict(saved["sparsifier"])
            load_states(self.model, self.optimizer, self.topology, saved)
            self.schedule.load_state_dict(saved["schedule"])
            if self.run.protocol.masking == "gradient":
                self.topology.enforce(self.optimizer)
            self.state = RunState(**saved["state"] | {"totals": Totals(**saved["state"]["totals"])})
            self.hidden = to_device(saved["hidden"], next(self.model.parameters()).device)
            restore_rng(saved["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DamagedFile(
                f"{self.folder.checkpoint} is damaged or of another version: remove it to start the run anew."
            ) from error

    def last_row(self, results: Mapping[str, float], *, averaged: bool) -> dict[str, Any]:
        """What the log says of the finished run: results and size of the weights kept as `best/...`, the trigger."""
        state = self.state
        kept = {**results, "epoch": state.best_epoch, "averaged": int(averaged)}
        kept |= self.parameter_counts() | sparsities(self.topology)
        return {
            "step": state.step,
            "epoch": state.epoch,
            **{f"best/{name}": value for name, value in kept.items()},
            **self.schedule.facts(),
            "clock/seconds": state.seconds,
            "clock/finished": time.time(),
        }

    def parameter_counts(self) -> dict[str, int]:
        """All parameters, and those that are active at the end: with ISS that is known only once training is over."""
        dense = {parameter: parameter.numel() for parameter in self.model.parameters()}
        sparse = {weight.parameter: weight.size for weight in self.topology}
        parameters = sum((dense | sparse).values())
        inactive = round(self.topology.size * self.sparsifier.final_sparsity)
        return {"parameters": parameters, "active_parameters": parameters - inactive}

    def finish(self) -> dict[str, Any]:
        """Test the best weights; returns the results and leaves what is to be kept."""
        origin = load_weights(self.folder.best, self.model, self.topology)
        test = self.task.evaluate("test", between=self.stop_if_requested)
        state = self.state
        results = {
            **{f"valid/{k}": v for k, v in state.best.items()},
            **{f"test/{k}": v for k, v in test.items()},
        }
        self.loggers.row(self.last_row(results, averaged=origin["weights"] == "averaged"))
        self.rows.position()
        return {**results, "best_epoch": state.best_epoch, "weights": origin["weights"], **self.schedule.facts()}


def update_facts(report: UpdateReport) -> dict[str, float]:
    """What is logged of a topology update."""
    return {"topology/removed": report.removed, "topology/grown": report.grown}


def to_device(hidden: Any, device: torch.device) -> Any:
    """What is carried from batch to batch (tensors, lists and tuples of them, or nothing), moved."""
    if hidden is None or isinstance(hidden, torch.Tensor):
        return None if hidden is None else hidden.to(device)
    return type(hidden)(to_device(part, device) for part in hidden)
