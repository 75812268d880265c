"""`sparsify` on other people's modules, in their own training loops."""

import functools
import io

import pytest
import torch
from sparsify_loop import INTERVAL, MODULES, STEPS, Loop, make
from storages import state_of

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import config_dir
from sparse_rnn.sparsity.method import SparsifierConfig, make_schedule
from sparse_rnn.sparsity.sparsifier import Clock

METHODS = sorted({path.stem for path in (config_dir() / "sparsifier").glob("*.yaml")} - {"dense", "iss"})
STATIC = {"static_er", "static_uniform"}
# Every method on two of the modules, by turns.
PAIRS = [(MODULES[(number + k) % len(MODULES)], method) for number, method in enumerate(METHODS) for k in (0, 2)]


@functools.cache
def config_of(method: str) -> SparsifierConfig:
    """A method as the trainer composes it."""
    return compose_run([f"sparsifier={method}"]).sparsifier


def starts_sparse(method: str) -> bool:
    return config_of(method).initial != "dense"


def assert_inactive_is_zero(loop: Loop) -> None:
    for weight in loop.sparsifier.topology:
        assert not weight.values[~weight.mask].count_nonzero(), weight.name
        for key, tensor in state_of(loop.optimizer, weight).items():
            assert not tensor[~weight.mask].count_nonzero(), f"{key} of {weight.name}"


def expected_updates(config: SparsifierConfig) -> list[int]:
    if not config.dynamic:
        return []
    regular = [step for step in range(INTERVAL, STEPS, INTERVAL) if step / STEPS <= config.update_until]
    if not config.prunes:
        return regular
    closing = next(step for step in range(STEPS + 1) if step / STEPS >= config.prune_end)
    turning = [step for step in range(1, STEPS + 1) if make_schedule(config).turns((step - 1) / STEPS, step / STEPS)]
    return sorted({*(step for step in regular if config.prune_start <= step / STEPS), closing, *turning})


@pytest.mark.parametrize(("kind", "method"), PAIRS)
def test_counts_are_exact_and_inactive_weights_stay_zero(kind, method):
    config = config_of(method)
    loop = Loop(kind, method=method)
    topology = loop.sparsifier.topology
    fixed = round(0.4 * topology.size) if config.structure == "unstructured" else topology.active
    if config.initial != "dense" and config.structure == "unstructured":
        assert topology.active == round((1 - loop.sparsifier.config.start_sparsity) * topology.size)
    updates = []
    for step in range(1, STEPS + INTERVAL + 1):
        before = loop.masks
        report = loop.step()
        assert_inactive_is_zero(loop)
        changed = any(not torch.equal(mask, before[name]) for name, mask in loop.masks.items())
        if report is None:
            assert not changed, f"the topology changed in step {step} without an update"
            continue
        updates.append(step)
        assert report.active == topology.active
        if config.prunes:
            assert topology.active == loop.sparsifier.schedule.kept(topology.size, step / STEPS)
        else:
            assert topology.active == fixed
            assert report.removed == report.grown
            assert changed == (report.removed > 0)
    assert updates == expected_updates(config)
    if config.dynamic:
        assert topology.active == fixed


@pytest.mark.parametrize(("kind", "method"), [p for p in PAIRS if p[1] not in STATIC and starts_sparse(p[1])])
def test_an_update_moves_weights(kind, method):
    loop = Loop(kind, method=method)
    if hasattr(loop.sparsifier.removal, "threshold"):
        loop.sparsifier.removal.threshold = 0.05  # DSR's first removes little
    if loop.sparsifier.perturbation:
        loop.sparsifier.perturbation.noise = 10.0  # that of DeepR flips few signs in so few steps
    start = loop.masks
    assert list(loop.run(INTERVAL)) == [INTERVAL]
    assert sum(int((mask ^ start[name]).sum()) for name, mask in loop.masks.items()) > 20


@pytest.mark.parametrize("kind", MODULES)
def test_the_loss_falls(kind):
    loop = Loop(kind, steps=150, sparsity=0.5)
    loop.run(150)
    assert loop.losses[0] > 1.2
    assert sum(loop.losses[-10:]) / 10 < 0.4


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        *(("selfish", "averaged"), ("snfs", "adam"), ("dsr", "momentum"), ("gmp", "adam")),
        *(("mest", "adam"), ("mest_soft", "momentum"), ("deep_r", "momentum"), ("chtss", "adam"), ("acdc", "adam")),
        ("top_kast", "adam"),
    ],
)
@pytest.mark.parametrize("stop", [INTERVAL - 1, INTERVAL, 29])
def test_resuming_is_exact(method, optimizer, stop):
    """Model, optimizer and sparsifier written and read: every later value is the same, to the bit."""
    whole = Loop(method=method, optimizer=optimizer)
    whole.run(STEPS)
    first = Loop(method=method, optimizer=optimizer)
    first.run(stop)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (first.model, first.optimizer, first.sparsifier)], file)
    file.seek(0)
    second = Loop(method=method, optimizer=optimizer)
    second.losses = list(first.losses)
    for part, state in zip((second.model, second.optimizer, second.sparsifier), torch.load(file), strict=True):
        part.load_state_dict(state)
    assert second.sparsifier.step == stop
    second.run(STEPS - stop)
    assert second.losses == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    assert all(torch.equal(mask, second.masks[name]) for name, mask in whole.masks.items())


def test_an_optimizer_that_has_stepped_already_forgets_what_is_inactive():
    """A pretrained module: momentum would move its inactive weights, however well the gradients are masked."""
    model = make("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, method="static_uniform")
    sparsifier.before_step()
    optimizer.step()
    for weight in sparsifier.topology:
        assert not weight.values[~weight.mask].count_nonzero()


def test_gates_are_those_declared():
    rows = {"update": slice(0, 16), "new": slice(16, 32)}
    by_argument = Loop("cell", gates={"encoder.weight": rows}).sparsifier
    by_method = Loop("declaring").sparsifier
    for sparsifier in (by_argument, by_method):
        weight = sparsifier.topology["encoder.weight"]
        assert dict(weight.gates) == rows
        assert sparsifier.topology["head.weight"].cell is None
    assert set(Loop("gru").sparsifier.topology["encoder.weight_hh_l0"].gates) == {"reset", "update", "new"}
    assert list(Loop("cell").sparsifier.topology["encoder.weight"].gates) == ["all"]


def test_gates_on_their_own_keep_their_counts():
    loop = Loop("declaring", method="st_rnn")
    weight = loop.sparsifier.topology["encoder.weight"]
    before = [int(weight.mask[rows].sum()) for rows in weight.gates.values()]
    assert len(loop.run(STEPS)) == 4
    assert [int(weight.mask[rows].sum()) for rows in weight.gates.values()] == before


def test_weights_can_be_kept_dense():
    loop = Loop(keep_dense=["embedding.*", "head.*"])
    assert set(loop.masks) == {"encoder.weight_ih_l0", "encoder.weight_hh_l0"}
    loop.run(INTERVAL)
    assert loop.model.embedding.weight.count_nonzero() == loop.model.embedding.weight.numel()


def test_parts_of_a_method_can_be_exchanged():
    sparsifier = Loop(method="rigl", growth="random", initial="uniform", scope="cell", schedule="constant").sparsifier
    config = sparsifier.config
    assert (config.name, config.initial, config.scope, config.schedule) == ("rigl", "uniform", "cell", "constant")
    assert sparsifier.growth.name == "random"
    assert not sparsifier.needs


def test_the_rate_falls_over_the_steps():
    reports = Loop(removal_rate=0.4).run(STEPS)
    assert [reports[step].rate for step in (8, 16, 24, 32)] == pytest.approx(
        [0.361803, 0.261803, 0.138197, 0.038197], abs=1e-5
    )


def test_averaged_sgd_puts_the_gradient_in_momentum_s_place():
    assert Loop(method="snfs", optimizer="averaged").sparsifier.needs == {"gradient"}
    assert Loop(method="snfs", optimizer="momentum").sparsifier.needs == {"momentum"}


def test_seeds_draw_different_topologies():
    one, same, other = (Loop(seed=seed).masks["encoder.weight_hh_l0"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_clock_of_one_s_own_takes_the_count_s_place():
    model = make("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=STEPS, update_interval=5)
    clock = Clock(step=20, epoch=0, epochs=1, batch=20, batches=STEPS)
    sparsifier.before_step(clock)
    assert sparsifier.after_step(clock) is not None
    assert sparsifier.step == 20
