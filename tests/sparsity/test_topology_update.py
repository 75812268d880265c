"""One update of an eight-element weight, worked out by hand, under both protocols."""

import pytest
import torch
from storages import as_tested, gradient_of, masked_only, set_gradient, state_of

from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.rules.growth import GradientGrowth, MomentumGrowth, NoGrowth, RandomGrowth
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology

VALUES = [0.1, 0.2, 0.3, -0.4, 0.0, 0.0, 0.0, 0.0]
GRADIENT = [9.0, 1.0, 1.0, 1.0, 2.0, -8.0, 3.0, 7.0]
OFFICIAL = ProtocolConfig("official_code", "weight", True, True, 0.005, False, "tensor")
PROTOCOLS = pytest.mark.parametrize(
    "protocol",
    [ProtocolConfig(), pytest.param(OFFICIAL, marks=masked_only("it steps on dense gradients"))],
    ids=["paper", "official_code"],
)


def clock(step: int) -> Clock:
    return Clock(step, 0, 1, step, 1000)


def set_up(weight_of, method, growth, protocol=None, make_optimizer=None, **settings):
    """A sparsifier over one weight whose first half is active; every step updates and removes half of it."""
    weight = weight_of(VALUES, columns=8)
    start = SparseTopology([weight])
    masks = start.state_dict()
    optimizer = (make_optimizer or (lambda p: torch.optim.SGD(p, 0.1)))([weight.parameter])
    value = weight.parameter.detach().clone()
    config = method(**{"removal": "magnitude", "schedule": "constant", "update_interval": "1"} | settings)
    sparsifier = Sparsifier(config, growth, start, optimizer, seed=1, protocol=protocol)
    sparsifier.load_state_dict({**sparsifier.state_dict(), "topology": masks, "target": 4})
    weight.parameter.data.copy_(value)
    return sparsifier, as_tested(weight)


def backward(sparsifier: Sparsifier, gradient: list[float], at: Clock) -> None:
    """Backward of the step `at`, with this dense gradient, and what precedes the optimizer's step."""
    sparsifier.before_backward(at)
    set_gradient(sparsifier.topology["w"], torch.tensor([gradient]))
    sparsifier.before_step(at)


def active(sparsifier: Sparsifier) -> list[int]:
    return sparsifier.topology["w"].mask.flatten().int().tolist()


def test_rigl_removes_the_smallest_and_grows_the_largest_gradients(weight_of, method):
    """.1 and .2 go; of what is then inactive, the gradients 9 (just removed) and -8 are the largest."""
    sparsifier, weight = set_up(weight_of, method, GradientGrowth())
    backward(sparsifier, GRADIENT, clock(1))
    assert gradient_of(weight).tolist() == [[9, 1, 1, 1, 0, 0, 0, 0]]
    report = sparsifier.after_step(clock(1))
    assert active(sparsifier) == [1, 0, 1, 1, 0, 1, 0, 0]
    assert (report.removed, report.grown, report.active, report.rate) == (2, 2, 4, 0.5)
    assert weight.values.tolist()[0] == pytest.approx([0, 0, 0.3, -0.4, 0, 0, 0, 0])


def test_snfs_grows_by_the_momentum_of_dense_gradients(weight_of, method):
    """m = .9 * GRADIENT + second; entry 6 gains 2.7 - 11 = -8.3 and beats entry 5's -7.2 and entry 0's 8.1."""
    sparsifier, _ = set_up(weight_of, method, MomentumGrowth(), update_interval="2")
    for step, gradient in [(1, GRADIENT), (2, [0, 0, 0, 0, 0, 0, -11.0, 0])]:
        backward(sparsifier, gradient, clock(step))
        report = sparsifier.after_step(clock(step))
        assert (report is None) == (step == 1)
    assert active(sparsifier) == [1, 0, 1, 1, 0, 0, 1, 0]


def test_set_by_hand(weight_of, method):
    """Of three positives and one negative two go: 1.5 and .5, the tie for the positives."""
    sparsifier, _ = set_up(weight_of, method, GradientGrowth(), removal="set")
    backward(sparsifier, [0.0, 0, 0, 0, 0, 0, 1.0, 2.0], clock(1))
    sparsifier.after_step(clock(1))
    assert active(sparsifier) == [0, 0, 1, 1, 0, 0, 1, 1]


def test_gmp_by_hand(weight_of, method):
    """Half of the window is over: s = .5 * 7/8, so round(.5625 * 8) = 4 or 5 stay; 4.5 rounds to the even 4."""
    sparsifier, _ = set_up(weight_of, method, NoGrowth(), schedule="cubic", initial="dense")
    assert sparsifier.after_step(clock(500)) is not None
    assert active(sparsifier) == [1, 1, 1, 1, 0, 0, 0, 0]
    sparsifier.after_step(clock(999))
    assert sum(active(sparsifier)) == 4
    assert sparsifier.at_target


def from_dense(weight_of, method, growth, **settings):
    """A sparsifier over one weight of eight active entries, half of which are to go; every step updates."""
    weight = weight_of([0.1, 0.2, 0.3, -0.4, 0.5, 0.6, -0.7, 0.8], columns=8)
    optimizer = torch.optim.SGD([weight.parameter], 0.1)
    config = method(removal="magnitude", initial="dense", update_interval="1", **settings)
    sparsifier = Sparsifier(config, growth, SparseTopology([weight]), optimizer, seed=1)
    return sparsifier, as_tested(weight)


def test_granet_by_hand(weight_of, method):
    """Half of the window is over: 4 of 8 stay, as for GMP. So 4 go for good, and of the rest p = .25 is exchanged: five
    go, .1 to .5, and of these the largest gradient, that of .2, comes back with value zero."""
    sparsifier, weight = from_dense(weight_of, method, GradientGrowth(), schedule="cubic_regrowth")
    backward(sparsifier, [1.0, 9.0, 2.0, 3.0, 4.0, 99.0, 99.0, 99.0], clock(500))
    report = sparsifier.after_step(clock(500))
    assert active(sparsifier) == [0, 1, 0, 0, 0, 1, 1, 1]
    assert (report.removed, report.grown, report.active, report.rate) == (5, 1, 4, pytest.approx(0.25))
    assert weight.values.tolist()[0] == pytest.approx([0, 0, 0, 0, 0, 0.6, -0.7, 0.8])
    assert sparsifier.facts(clock(500)) == pytest.approx({"sparsity/asked": 0.5 * 7 / 8, "rate/removal": 0.25})


def test_acdc_by_hand(weight_of, method):
    """Dense, from .2 on the four largest, from .5 on dense with zeros, from .8 on the four largest again."""
    window = {"schedule": "alternating", "alternations": 1, "prune_start": 0.2, "prune_end": 0.8}
    sparsifier, weight = from_dense(weight_of, method, RandomGrowth(), **window)
    assert sparsifier.after_step(clock(100)) is None
    phases = []
    assert sparsifier.schedule.edges == pytest.approx([0.2, 0.5, 0.8])
    for step in (300, 400, 600, 700, 900):
        backward(sparsifier, [0.0] * 8, clock(step))
        report = sparsifier.after_step(clock(step))
        phases.append((report.removed, report.grown, report.active, sparsifier.at_target))
    assert phases == [(4, 0, 4, True), (0, 0, 4, True), (0, 4, 8, False), (0, 0, 8, False), (4, 0, 4, True)]
    assert weight.values.tolist()[0] == pytest.approx([0, 0, 0, 0, 0.5, 0.6, -0.7, 0.8])


def test_mest_with_a_soft_bound_by_hand(weight_of, method):
    """p = .5: two are added to the four; of the six, the two least important then go, and other two come."""
    sparsifier, _ = set_up(
        weight_of, method, RandomGrowth(), schedule="elastic", removal="magnitude_gradient", gradient_weight=0.1
    )
    reports = []
    for step, gradient in ((100, [0.0] * 8), (200, [5.0, 0, 0, 0, 0, 0, 0, 0])):
        backward(sparsifier, gradient, clock(step))
        before = active(sparsifier)
        reports.append(sparsifier.after_step(clock(step)))
        assert not sparsifier.at_target
    assert [(report.removed, report.grown, report.active) for report in reports] == [(0, 2, 6), (2, 2, 6)]
    assert before[:4] == [1, 1, 1, 1]  # the two new ones are zero, and so the least important
    assert active(sparsifier)[:4] == [1, 1, 1, 1]
    backward(sparsifier, [0.0] * 8, clock(1000))
    assert sparsifier.after_step(clock(1000)).active == 4
    assert sparsifier.at_target


@PROTOCOLS
def test_value_and_momentum_of_regrown_weights(weight_of, method, protocol):
    """Entry 0 is removed and regrown in one update: fresh under `paper`, kept under `official_code` (facts 0.5)."""
    sparsifier, weight = set_up(
        weight_of, method, GradientGrowth(), protocol, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)
    )
    backward(sparsifier, GRADIENT, clock(1))
    buffer = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]])
    sparsifier.optimizer.state[weight.parameter]["momentum_buffer"] = weight.storage.stored(buffer)
    sparsifier.after_step(clock(1))
    assert active(sparsifier) == [1, 0, 1, 1, 0, 1, 0, 0]
    kept = protocol.keep_regrown
    assert weight.values.tolist()[0] == pytest.approx([0.1 if kept else 0, 0, 0.3, -0.4, 0, 0, 0, 0])
    after = state_of(sparsifier.optimizer, weight)["momentum_buffer"]
    after[0, 1] = 0  # removed: reset at once, or by the mask after the next step
    assert after.tolist() == [[1.0 if kept else 0.0, 0, 3, 4, 0, 0, 0, 0]]


@PROTOCOLS
def test_adam_s_moments_of_changed_weights(weight_of, method, protocol):
    """Under `paper` grown ones begin at 0 and at the mean second moment of the others (3 and 4: 3.5), removed ones
    are 0; under `official_code` moments are dense and never reset (facts B.6)."""
    sparsifier, weight = set_up(weight_of, method, GradientGrowth(), protocol, lambda p: torch.optim.Adam(p, 0.1))
    backward(sparsifier, GRADIENT, clock(1))
    first, second = torch.arange(11.0, 19.0)[None], torch.arange(1.0, 9.0)[None]
    if protocol.masking == "gradient":
        first[:, 4:], second[:, 4:] = 0, 0
    stored = [weight.storage.stored(moment.clone()) for moment in (first, second)]
    moments = {"step": torch.tensor(1.0), **dict(zip(("exp_avg", "exp_avg_sq"), stored, strict=True))}
    sparsifier.optimizer.state[weight.parameter].update(moments)
    sparsifier.after_step(clock(1))
    assert active(sparsifier) == [1, 0, 1, 1, 0, 1, 0, 0]
    if protocol.name == "paper":
        first = torch.tensor([[0.0, 0, 13, 14, 0, 0, 0, 0]])
        second = torch.tensor([[3.5, 0, 3, 4, 0, 3.5, 0, 0]])
    after = state_of(sparsifier.optimizer, weight)
    assert torch.equal(after["exp_avg"], first)
    assert torch.equal(after["exp_avg_sq"], second)


@PROTOCOLS
def test_averages_of_changed_weights(weight_of, method, protocol):
    """One averaged step before the update, one after it: under `paper` the regrown entry 0 counts the second alone
    (Eq. 5), under `official_code` its counter continues and only the very first value is skipped (facts C)."""
    sparsifier, weight = set_up(
        weight_of,
        method,
        GradientGrowth(),
        protocol,
        lambda p: AveragedSGD(p, 1.0, skip_first=protocol.skip_first_average),
        update_interval="2",
    )
    optimizer = sparsifier.optimizer
    optimizer.start_averaging()
    history = []
    for step in (1, 2, 3, 4):  # the update is after step 2
        backward(sparsifier, [g / 1000 for g in GRADIENT], clock(step))
        optimizer.step()
        if step < 4:
            sparsifier.after_step(clock(step))
            history.append(weight.values.clone())
        if step == 2:
            assert active(sparsifier) == [1, 0, 1, 1, 0, 1, 0, 0]
    history.append(weight.values.clone())
    with optimizer.averaged():
        mean = weight.values[0].clone()
    w = torch.stack(history)[:, 0]
    if protocol.name == "paper":
        assert mean[0] == pytest.approx(float(w[2:, 0].mean()))
        assert mean[3] == pytest.approx(float(w[:, 3].mean()))
        assert mean[5] == pytest.approx(float(w[2:, 5].mean()))
    else:
        assert w[1, 0] != 0
        assert mean[0] == pytest.approx(float(w[1:, 0].mean()))
        assert mean[3] == pytest.approx(float(w[1:, 3].mean()))
        assert mean[5] == pytest.approx(float(w[3, 5]))


def test_the_rule_s_state_and_pending_signals_are_part_of_a_checkpoint(weight_of, method):
    """Stored between the minibatch and the update, restored elsewhere: the same update."""

    def fresh():
        return set_up(weight_of, method, MomentumGrowth(), removal="threshold", update_interval="epoch")

    sparsifier, _ = fresh()
    sparsifier.removal.threshold = 0.25
    last = Clock(10, 0, 2, 10, 10)
    backward(sparsifier, GRADIENT, last)
    stored = sparsifier.state_dict()
    other, _ = fresh()
    other.load_state_dict(stored)
    assert sparsifier.after_epoch(last) == other.after_epoch(last)
    assert active(sparsifier) == active(other) == [1, 0, 1, 1, 0, 1, 0, 0]
    assert other.removal.threshold == 0.25


def test_a_restored_sparsifier_refuses_another_topology(weight_of, method):
    sparsifier, _ = set_up(weight_of, method, RandomGrowth())
    stored = sparsifier.state_dict()
    stored["topology"] = {"v": stored["topology"]["w"]}
    with pytest.raises(ValueError, match="other weights"):
        sparsifier.load_state_dict(stored)


def test_random_growth_may_regrow_what_was_just_removed(weight_of, method):
    """facts 0.5: with random growth a removed weight may come back in the same update; it then starts at zero."""
    regrown = 0
    for step in range(1, 41):
        sparsifier, weight = set_up(weight_of, method, RandomGrowth())
        sparsifier.update(clock(step))
        back = active(sparsifier)[:2]
        regrown += sum(back)
        assert weight.values[0, :2].tolist() == [0.0, 0.0]
        assert sum(active(sparsifier)) == 4
    assert 15 < regrown < 40  # 2 of 6 free positions grow: 80 / 3 expected
