"""The trainer of every run: the loop, validation, checkpoints."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from sparse_rnn.backends.choice import Choice
from sparse_rnn.config.schema import Run
from sparse_rnn.core.device import restore_rng, rng_state
from sparse_rnn.core.errors import DamagedFile, Diverged
from sparse_rnn.core.tensor_files import CHECKSUM, save_tensors
from sparse_rnn.data.base import Data
from sparse_rnn.data.batches import Batch
from sparse_rnn.models.base import map_hidden
from sparse_rnn.optim.moving_average import averaged_weights
from sparse_rnn.runs.folder import RunFolder, backend_so_far, keep_next_best
from sparse_rnn.runs.parents import keeps_rewind, rewind
from sparse_rnn.runs.weights import load_weights, save_weights, stored_weights
from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock, UpdateReport
from sparse_rnn.sparsity.statistics import sparsities
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier, make_step, make_task, use_backend
from sparse_rnn.training.checkpoint import save_checkpoint, sent_to_host
from sparse_rnn.training.generations import restore_newest
from sparse_rnn.training.initial_scores import initial_scores
from sparse_rnn.training.log_rows import closing_facts, large_weight_facts, topology_facts
from sparse_rnn.training.loggers.base import Loggers
from sparse_rnn.training.loggers.json_lines import EMPTY, JsonLines
from sparse_rnn.training.loggers.terminal import Terminal
from sparse_rnn.training.parameter_counts import parameter_counts
from sparse_rnn.training.running_sums import RunningSums
from sparse_rnn.training.snapshots import save_snapshot
from sparse_rnn.training.state import RunState, Stopped
from sparse_rnn.training.tasks.base import Totals
from sparse_rnn.training.writer import Writer


class Trainer:
    """Trains one run in its folder, from its checkpoint if there is one. `read_only`: only to inspect its state."""

    def __init__(
        self, run: Run, data: Data, folder: RunFolder, device: torch.device, *, read_only: bool = False
    ) -> None:
        self.run, self.folder, self.device = run, folder, device
        torch.manual_seed(run.init_seed)
        self.model = run.model.build(*data.sizes).to(device)
        self.task = make_task(run, data, self.model, device)
        self.topology = make_topology(run.sparsifier, self.model)
        self.optimizer = make_optimizer(run, self.model)
        self.schedule = run.optimizer.schedule(self.optimizer, run.training.epochs)
        begins = not read_only and not folder.has_checkpoint
        scores = initial_scores(run, self.model, self.task, self.topology, placeholder=not begins)
        if begins:
            rewind(run, self.model, self.topology)
        self.sparsifier = make_sparsifier(run, self.topology, self.optimizer, scores)
        self.backend = Choice("masked", "to inspect it")
        if not read_only:
            begun = backend_so_far(folder)
            self.backend = use_backend(run, self.model, self.topology, device, self.task, begun)
        self.state, self.sums = RunState(), RunningSums(device)
        self.hidden = self.task.initial_hidden()
        self.stop_requested, self.stop_signal = False, 0
        torch.manual_seed(run.seed)
        self.saved_by, self.steps_read = self.backend.name, 0
        self.best_checksum: str | None = None
        saved, self.damage = restore_newest(folder, self.restore, read_only=read_only)
        if not read_only:
            self.rows = JsonLines(folder.metrics, saved["metrics"] if saved else EMPTY)
            self.step = make_step(run, self.model, self.task, self.sparsifier, self.optimizer, self.sums)

    def fit(self, loggers: Loggers, terminal: Terminal) -> dict[str, Any]:
        """Train to the end; returns the results. Raises Stopped once the state is saved, Diverged, OSError."""
        self.loggers, self.terminal, self.saved_at = loggers, terminal, time.monotonic()
        self.writer = Writer(self.device)
        try:
            self.train_epochs()
        except Stopped:
            self.save()
            raise
        finally:
            self.writer.wait()
        return self.finish()

    def train_epochs(self) -> None:
        """Train the epochs that are left; the topology is updated between steps or after validation."""
        state = self.state
        while state.epoch < self.run.training.epochs:
            self.batches = self.task.batches(state.epoch)
            for batch in self.batches.after(state.batch):
                self.train_step(batch)
                self.log_step(self.sparsifier.after_step(self.clock))
                self.stop_if_requested()
                self.save_if_due()
            self.read_sums()
            valid = self.evaluate_and_keep_best()
            triggered = self.schedule.step(valid["valid/loss"], state.epoch + 1)
            report = self.sparsifier.after_epoch(self.clock, triggered=triggered)
            self.log_epoch(valid, report)
            state.next_epoch()
            if keeps_rewind(self.run, state.epoch):
                save_weights(self.folder.rewind, self.model, self.topology, {"epoch": str(state.epoch)})
            self.sums.begin()
            self.hidden = self.task.initial_hidden()
            self.save_if_due()

    def train_step(self, batch: Batch) -> None:
        """One step; what it computed is read back now and then. Raises Diverged."""
        started, state, clock = time.monotonic(), self.state, self.clock_after(batch)
        self.schedule.before_step(clock.progress)
        self.hidden = self.step(batch, self.hidden, clock)
        state.count_step(batch)
        state.count_seconds(time.monotonic() - started)
        if self.sums_are_due:
            self.read_sums()

    @property
    def sums_are_due(self) -> bool:
        """Whether the losses are read after this step: on a GPU only where they are logged, since that waits for it."""
        return self.device.type == "cpu" or self.state.recent_steps >= self.run.logger.every

    def read_sums(self) -> None:
        """Bring the losses of the last steps from the device. Raises Diverged, with the step at which that began."""
        started, state = time.monotonic(), self.state
        loss, correct, recent, finite = self.sums.read()
        state.count_seconds(time.monotonic() - started)  # of a GPU that works on what it was told
        if not math.isfinite(loss):
            step = self.steps_read + finite + 1
            where = f"in epoch {state.epoch + 1}, step {step}"
            raise Diverged(f"The training loss became {loss} {where}: lower optimizer.lr or training.clip.")
        state.totals.loss, state.totals.correct, state.recent_loss = loss, correct, recent
        self.steps_read = state.step

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
        """Let the model hold the weights that are evaluated: the averages once there are any, sparse like the raw ones.

        Yields whether they are averages.
        """
        with averaged_weights(self.optimizer) as averaged:
            if averaged:
                self.topology.mask_weights()
            yield averaged

    def evaluate_and_keep_best(self) -> dict[str, Any]:
        """Validate; keep the weights if they are the best so far and as sparse as asked for."""
        state, valid_epoch = self.state, self.state.epoch + 1
        facts = large_weight_facts(self.model, self.sparsifier, "raw")
        with self.evaluated_weights() as averaged:
            valid = self.task.evaluate("valid", between=self.stop_if_requested)
            if not math.isfinite(valid["loss"]):
                raise Diverged(f"The validation loss became {valid['loss']} in epoch {valid_epoch}.")
            facts |= large_weight_facts(self.model, self.sparsifier, "evaluated")
            if self.sparsifier.at_target and (not state.best or self.task.better(valid, state.best)):
                state.best, state.best_epoch = valid, valid_epoch
                self.save_best("averaged" if averaged else "raw")
            if self.run.snapshots.enabled:
                states = self.task.snapshot(self.run.snapshots.tokens)
                save_snapshot(self.folder.snapshots, valid_epoch, self.topology, states)
        return {**{f"valid/{k}": v for k, v in valid.items()}, "averaging/evaluated": int(averaged), **facts}

    def log_step(self, report: UpdateReport | None) -> None:
        """Log the training loss every `logger.every` steps, and every topology update inside an epoch."""
        state, row = self.state, {}
        if state.recent_steps >= self.run.logger.every:
            row["train/loss_recent"] = state.take_recent_loss()
            self.sums.begin_recent()
        if report:
            row |= topology_facts(self.sparsifier, self.clock, report)
        if row:
            self.loggers.row({"step": state.step, "epoch": state.epoch + 1, **row})
        if self.steps_read == state.step:
            metrics, speed = self.task.metrics(state.totals), state.tokens_per_second
            self.terminal.step(state.epoch, self.clock.progress, metrics, speed, self.sparsifier.sparsity)

    def log_epoch(self, valid: dict[str, Any], report: UpdateReport | None) -> None:
        """Log an epoch; its sparsities are those after the update at its end."""
        state = self.state
        row = {
            **{f"train/{k}": v for k, v in self.task.metrics(state.totals).items()},
            **valid,
            **self.schedule.facts(),
            **topology_facts(self.sparsifier, self.clock, report),
            "rate/learning": self.optimizer.param_groups[0]["lr"],
            "throughput/tokens_per_second": state.tokens_per_second,
        }
        self.loggers.row({"step": state.step, "epoch": state.epoch + 1, **row})

    def stop_if_requested(self) -> None:
        """Raise Stopped if a signal has asked for it."""
        if self.stop_requested:
            raise Stopped

    def save_if_due(self) -> None:
        """Save if the last checkpoint is old enough, or training is over."""
        old = time.monotonic() - self.saved_at >= 60 * self.run.checkpoint.every_minutes
        if old or self.state.epoch == self.run.training.epochs:
            self.save()

    def save_best(self, weights: str) -> None:
        """Write the weights that the model holds as those of the best validation; `weights`: averaged or raw."""
        tensors = stored_weights(self.model, self.topology)
        origin = {"epoch": str(self.state.best_epoch), "weights": weights}
        self.writer.submit(partial(self._write_best, tensors, origin))

    def _write_best(self, tensors: dict[str, torch.Tensor], origin: dict[str, str]) -> None:
        """Write best weights; the checkpoint that comes next holds their checksum."""
        self.best_checksum = save_tensors(self.folder.next_best, tensors, origin)

    def save(self) -> None:
        """Write everything that a resumed run needs to equal an uninterrupted one."""
        self.read_sums()
        state = {
            "backend": self.backend.name,
            **saved_states(self.model, self.optimizer, self.topology),
            "schedule": self.schedule.state_dict(),
            "sparsifier": self.sparsifier.state_dict(),
            "state": asdict(self.state),
            "hidden": self.hidden,
            "rng": rng_state(self.device),
            "metrics": self.rows.position(),
        }
        if self.device.type == "cpu":
            self.writer.submit(partial(self._write, state))
        else:
            self.writer.submit(partial(self._write, *sent_to_host(state, self.device)))
        self.saved_at = time.monotonic()

    def _write(self, state: dict[str, Any], arrived: torch.cuda.Event | None = None) -> None:
        """Write a checkpoint, then let the best weights that it knows of take their place."""
        if arrived is not None:
            arrived.synchronize()
        save_checkpoint(self.folder.checkpoint, state | {"best": self.best_checksum}, self.folder.previous_checkpoint)
        keep_next_best(self.folder)

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint; raises DamagedFile if it is not of this run."""
        try:
            self.saved_by = saved.get("backend", "masked")
            # The topology comes first: under the kernels, a weight has as many values as its mask has entries.
            self.sparsifier.load_state_dict(saved["sparsifier"])
            load_states(self.model, self.optimizer, self.topology, saved)
            self.schedule.load_state_dict(saved["schedule"])
            if self.run.protocol.masking == "gradient":
                self.topology.enforce(self.optimizer)
            self.state = state = RunState(**saved["state"] | {"totals": Totals(**saved["state"]["totals"])})
            self.sums.begin(state.totals.loss, state.totals.correct, state.recent_loss)
            self.hidden = map_hidden(lambda tensor: tensor.to(self.device), saved["hidden"])
            self.steps_read = state.step
            restore_rng(saved["rng"], self.device)
            self.best_checksum = saved.get("best")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DamagedFile(f"{self.folder.checkpoint} is damaged or of another version") from error

    def finish(self) -> dict[str, Any]:
        """Test the best weights, log them in the last row, and return the results."""
        origin = load_weights(self.folder.best, self.model, self.topology)
        wrong = origin["epoch"] != str(self.state.best_epoch) and f"the weights of epoch {origin['epoch']}"
        if wrong or origin.get(CHECKSUM) != self.best_checksum:
            raise DamagedFile(
                f"{self.folder.best} holds {wrong or 'other weights than were kept'}, and the best epoch was "
                f"{self.state.best_epoch}: move its folder away to train the run again."
            )
        test = self.task.evaluate("test", between=self.stop_if_requested)
        state = self.state
        results = {
            **{f"valid/{k}": v for k, v in state.best.items()},
            **{f"test/{k}": v for k, v in test.items()},
        }
        kept = {**results, "epoch": state.best_epoch, "averaged": int(origin["weights"] == "averaged")}
        kept |= parameter_counts(self.model, self.sparsifier) | sparsities(self.topology)
        row = closing_facts(state, kept, self.schedule.facts())
        self.loggers.row({"step": state.step, "epoch": state.epoch, **row})
        self.rows.check()
        return {**results, "best_epoch": state.best_epoch, "weights": origin["weights"], **self.schedule.facts()}
