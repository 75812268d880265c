"""Every model, method and optimizer trains on a CUDA device without mixing devices, without a kernel and a GPU.

Under torch's FakeTensorMode an operation on tensors of different devices is an error, and so is reading a value. A
training step that passes therefore waits for the device nowhere. What must read values cannot run so, and is tested
on a real device alone (tests/cuda): the draw of the first topology, the selection inside an update, the second moments
of regrown weights, evaluation, checkpoints, the random state, Triton's kernels, cuDNN and CUDA graphs.
"""

import functools
import itertools
from dataclasses import replace

import pytest
import torch
from fake_cuda import DEVICE, backward, fake_cuda, register_guard
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._pytree import tree_map

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.registry import lookup
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.checkpoint_format import load_states
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.training.trainer import Trainer

MODELS = ("stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos", "lstm_classifier")
NETWORKS = ("min_gru", "min_lstm", "rg_lru", "slstm", "mamba_classifier")  # which share all but their layers
SELECTING = {"grasp", "imp", "snip", "synflow", "top_kast"}  # read values when they are made, which these do not have
METHODS = sorted({path.stem for path in (config_dir() / "sparsifier").glob("*.yaml")} - SELECTING)
OPTIMIZERS = sorted(path.stem for path in (config_dir() / "optimizer").glob("*.yaml"))
EMBEDDED = {"language_modelling": "pydoc", "text_classification": "pydoc_topics"}
STRUCTURED = ("stacked_lstm", "rhn")


def combinations():
    """Every model with every method and every optimizer: the optimizers shift along the models.

    The networks that share all but their layers have one method, and an optimizer each; nn.GRU asks for a real device.
    """
    for (i, method), (k, model) in itertools.product(enumerate(METHODS), enumerate(MODELS)):
        if method != "iss" or model in STRUCTURED:
            yield model, method, OPTIMIZERS[(i + k) % len(OPTIMIZERS)]
    yield from zip(NETWORKS, itertools.repeat("selfish"), itertools.cycle(OPTIMIZERS), strict=False)


@functools.cache
def composed(*overrides):
    """The configuration of these overrides."""
    return compose_run([*overrides, "budget=smoke"])


def run_of(model, method, optimizer):
    """A model's run with the parts of others: to compose every combination would take longer than to train it."""
    dataset = EMBEDDED[lookup("model", model).task]
    # The lengths of variable windows are drawn on the CPU, which is not what is tested here.
    short = ["training.bptt=2", "training.variable_bptt=false", "training.max_bptt=null", "training.batch=2"]
    short = short if dataset == "pydoc" else ["dataset.length=3"]
    short += ["training.sub_batch=null", "model.layers=2"] if model == "awd_lstm_mos" else []
    run = composed(f"model={model}", f"dataset={dataset}", *short)
    sparse = composed(f"sparsifier={method}", "dataset=pydoc")
    none = ["recipe=none", "optimizer.lr=0.5", "sparsifier=dense", "sparsifier.removal_rate=0.5"]
    steps = composed(f"optimizer={optimizer}", "dataset=pydoc", *none)
    return replace(run, sparsifier=sparse.sparsifier, growth=sparse.growth, optimizer=steps.optimizer)


@functools.cache
def data(dataset):
    """An embedded data set at the size of budget=smoke."""
    run = run_of("stacked_lstm" if dataset == "pydoc" else "lstm_classifier", "dense", "sgd")
    return run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)


@pytest.fixture(scope="module", autouse=True)
def _guard(tmp_path_factory):
    register_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def trainer_of(monkeypatch, tmp_path):
    """Makes the trainer of a run on the device that is not there; fake until the test ends."""

    def made(model, method, optimizer):
        run = run_of(model, method, optimizer)
        trainer = Trainer(run, data(run.dataset.name), RunFolder(tmp_path), DEVICE)
        trainer.batches = trainer.task.batches(0)
        return trainer

    for dataset in EMBEDDED.values():
        data(dataset)
    with fake_cuda(monkeypatch):
        yield made


def train(trainer, position, steps=1):
    """Some training steps from a number of batches on, an update of the topology excepted."""
    for batch in itertools.islice(trainer.batches.after(position), steps):
        trainer.train_step(batch)


def restart(trainer):
    """What an update does once it has selected: masks, restarted averages and optimizer state."""
    for weight in trainer.topology:
        restarted = ~weight.mask
        trainer.topology.replace(weight.name, ~restarted, trainer.optimizer, restarted, dense_state=True)


def tensors_of(trainer):
    """All that lives on the device, by name."""
    named = dict(trainer.model.named_parameters()) | {w.name + " mask": w.mask for w in trainer.topology}
    for name, parameter in trainer.model.named_parameters():
        named |= {f"{name} {key}": tensor for key, tensor in tensors_like(trainer.optimizer, parameter).items()}
        named[f"{name} gradient"] = parameter.grad
    return named


@pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN")
@pytest.mark.parametrize(("model", "method", "optimizer"), list(combinations()))
def test_steps_averages_and_restored_states_stay_on_the_device(trainer_of, model, method, optimizer):
    trainer = trainer_of(model, method, optimizer)
    train(trainer, 0)
    if isinstance(trainer.optimizer, AveragedSGD):
        trainer.optimizer.start_averaging()
    train(trainer, len(trainer.batches) - 1)  # the step before an update reads the dense signals
    restart(trainer)
    with trainer.evaluated_weights():
        pass
    load_states(trainer.model, trainer.optimizer, trainer.topology, checkpoint_of(trainer))
    trainer.topology.enforce(trainer.optimizer)
    if model == "stacked_lstm":
        train(trainer, 0)
    for name, tensor in tensors_of(trainer).items():
        assert isinstance(tensor, FakeTensor), name
        assert tensor.device == DEVICE, name


def checkpoint_of(trainer):
    """The states as a checkpoint of dense tensors has them, on the CPU."""
    states = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    return tree_map(lambda value: value.detach().cpu() if isinstance(value, torch.Tensor) else value, states)


def test_a_tensor_on_the_cpu_is_noticed(trainer_of, monkeypatch):
    trainer = trainer_of("stacked_lstm", "selfish", "snt_asgd")
    zeros = trainer.model.initial_hidden
    monkeypatch.setattr(trainer.model, "initial_hidden", lambda batch: tuple(h.cpu() for h in zeros(batch)))
    trainer.hidden = trainer.task.initial_hidden()
    with pytest.raises(RuntimeError, match="cuda:0 and hidden tensor at cpu"):
        train(trainer, 0)


def test_a_value_that_is_read_in_a_step_is_noticed(trainer_of, monkeypatch):
    trainer = trainer_of("stacked_lstm", "selfish", "snt_asgd")
    step = trainer.optimizer.step
    weight = trainer.model.decoder.weight
    monkeypatch.setattr(trainer.optimizer, "step", lambda: weight.sum().item() and step())
    with pytest.raises(DataDependentOutputException):
        train(trainer, 0)


def test_backward_passes_are_torch_s_own(monkeypatch):
    """The fake engine calls real nodes: here with values, and against torch's engine."""
    run = run_of("on_lstm", "dense", "sgd")
    model = run.model.build(30)
    tokens = torch.randint(30, (4, 2))

    def gradients(engine):
        model.zero_grad()
        torch.manual_seed(1)
        engine(model.training_loss(tokens[:-1], tokens[1:], model.initial_hidden(2))[0])
        return [p.grad.clone() for p in model.parameters()]

    for ours, torchs in zip(gradients(backward), gradients(torch.autograd.backward), strict=True):
        torch.testing.assert_close(ours, torchs)
