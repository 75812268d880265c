"""A run finds its GPU, names it, and reads losses from it now and then."""

import pytest
import torch
from device_runs import DEVICE, overrides_of, record_of

from sparse_rnn.core.device import make_device
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.training.trainer import Trainer


class Poisoned(Trainer):
    """A weight that is not a number makes every loss one from step 22."""

    def train_step(self, batch):
        if self.state.step == 21:
            self.model.decoder.bias.data[3] = float("nan")
        super().train_step(batch)


def test_the_record_names_the_gpu_and_what_drives_it(runs):
    record = record_of(runs(overrides_of("stacked_lstm", "static_uniform", "sgd"), device="auto"))
    assert record["device"].startswith(DEVICE)
    facts = record["environment"]
    assert facts["device_name"] == torch.cuda.get_device_name()
    assert facts["cuda"] == torch.version.cuda
    assert facts["cudnn"] == torch.backends.cudnn.version()


def test_a_gpu_that_does_not_exist_is_one_sentence():
    with pytest.raises(ConfigError, match=r"^device=cuda:99 does not exist here: [^\n]*\.$"):
        make_device("cuda:99")


@pytest.mark.parametrize("model", ["stacked_lstm", "lstm_classifier"])
def test_how_often_losses_are_read_changes_no_number(runs, model):
    common = overrides_of(model, "selfish", None, "deterministic=true")
    often, seldom = (record_of(runs([*common, f"logger.every={every}"])) for every in (1, 7))
    assert often["digest"] == seldom["digest"]


@pytest.mark.parametrize("graph", ["off", "on"])
def test_a_loss_that_is_no_number_is_reported_with_its_step(runs, graph):
    overrides = overrides_of("stacked_lstm", "static_uniform", "sgd", "logger.every=5", f"training.graph={graph}")
    with pytest.raises(RunFailed, match=r"loss became nan in epoch \d+, step 22:"):
        runs([*overrides, "training.bptt=5"], trainer=Poisoned)
