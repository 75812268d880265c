"""A training step waits for the device nowhere: the loss is read every `logger.every` steps."""

import pytest
import torch
from device_runs import MODELS, overrides_of

from sparse_rnn.training.trainer import Trainer

FIRST, LAST = 4, 12  # steps that must not wait: after kernels were loaded, and before an epoch ends


class NeverWaiting(Trainer):
    """Any wait for the device is an error, from step FIRST to step LAST of the first epoch."""

    steps = 0

    def train_step(self, batch):
        self.guarded(super().train_step, batch)
        type(self).steps = self.state.step

    def log_step(self, report):
        self.guarded(super().log_step, report)

    def guarded(self, action, *arguments):
        torch.cuda.set_sync_debug_mode("error" if FIRST <= self.state.step < LAST else "default")
        try:
            action(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("switches", ["graph=off fused=off", "graph=on fused=off", "graph=on fused=on"])
@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits(runs, model, switches):
    more = ["logger.every=1000", *(f"training.{switch}" for switch in switches.split())]
    own = [] if model == "lstm_classifier" else ["training.bptt=5", "training.variable_bptt=false"]
    runs(overrides_of(model, "selfish", None, *own, *more), trainer=NeverWaiting)
    assert NeverWaiting.steps > LAST


@pytest.mark.parametrize("optimizer", ["sgd", "nt_asgd", "adam", "adamw", "momentum_sgd"])
def test_no_step_waits_whatever_the_optimizer(runs, optimizer):
    runs(overrides_of("stacked_lstm", "snfs", optimizer, "logger.every=1000"), trainer=NeverWaiting)


def test_a_wait_is_noticed():
    value = torch.ones(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            value.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
