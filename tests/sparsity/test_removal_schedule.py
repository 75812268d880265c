import math

import pytest

from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.sparsity.method import make_schedule
from sparse_rnn.sparsity.rules.schedule import (
    Alternating,
    Constant,
    Cosine,
    Cubic,
    Elastic,
    Linear,
    ScheduleSettings,
    SigmoidRegrowth,
    Steps,
)

PAPER = ScheduleSettings(initial=0.7, final=0.0, sparsity=0.67, start=0.0, end=1.0)
OFFICIAL = ScheduleSettings(initial=0.7, final=0.005, sparsity=0.67, start=0.0, end=1.0)


def test_constant():
    assert [Constant(PAPER).rate(x) for x in (0.0, 0.3, 1.0)] == [0.7, 0.7, 0.7]


def test_linear():
    assert [Linear(PAPER).rate(x) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.7, 0.525, 0.35, 0.0])
    assert Linear(OFFICIAL).rate(0.5) == pytest.approx(0.3525)


def test_cosine_of_the_paper_starts_at_p_and_ends_at_zero():
    expected = [0.7, 0.35 * (1 + math.sqrt(0.5)), 0.35, 0.35 * (1 - math.sqrt(0.5)), 0.0]
    assert [Cosine(PAPER).rate(x / 4) for x in range(5)] == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.6998), (10, 0.683), (50, 0.352), (100, 0.005)])
def test_cosine_of_the_official_code_at_the_ends_of_epochs(epoch, rate):
    """facts B.5: p0 = .7 over 100 epochs, floor .005."""
    assert Cosine(OFFICIAL).rate(epoch / 100) == pytest.approx(rate, abs=1e-3 if epoch == 50 else 6e-5)


def test_cosine_of_the_official_code_renews_the_network_35_times():
    """facts B.5: the rates of 100 epochs sum to about 34.9."""
    assert sum(Cosine(OFFICIAL).rate(epoch / 100) for epoch in range(1, 101)) == pytest.approx(34.9, abs=0.1)


@pytest.mark.parametrize(
    ("active", "progress", "count"),
    [
        (100, 0.0, 70),
        (10, 0.5, 4),  # 3.5 rounds to the even 4
        (100, 1.0, 0),
        (1, 0.0, 0),  # something stays
        (0, 0.0, 0),
    ],
)
def test_the_count_is_the_rounded_share_of_active_weights(active, progress, count):
    assert Cosine(PAPER).counts([active, 100], [200, 200], progress)[0] == count


def test_pruning_follows_the_cubic_curve_inside_its_window():
    """Zhu and Gupta 2017: 1 - (1 - u)^3 of S = .8 at u = 0, 1/2, 1 of the window [.2, .6]."""
    schedule = Cubic(ScheduleSettings(initial=0.0, final=0.0, sparsity=0.8, start=0.2, end=0.6))
    rates = [schedule.rate(x) for x in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 0.0, 0.8 * 37 / 64, 0.7, 0.8, 0.8])


def test_pruning_ends_at_its_sparsity_exactly():
    schedule = Cubic(ScheduleSettings(initial=0.0, final=0.0, sparsity=0.67, start=0.3, end=0.9))
    assert schedule.rate(0.9) == 0.67


@pytest.mark.parametrize(
    ("active", "progress", "count"),
    [
        (64, 0.2, 0),
        (64, 0.4, 45),  # .7 of 64 are 44.8 inactive, 19.2 active
        (30, 0.4, 11),
        (19, 0.4, 0),
        (10, 0.4, 0),  # already sparser
        (64, 0.6, 51),
    ],
)
def test_pruning_removes_what_exceeds_the_density_asked_for(active, progress, count):
    schedule = Cubic(ScheduleSettings(initial=0.0, final=0.0, sparsity=0.8, start=0.2, end=0.6))
    assert schedule.counts([active], [64], progress) == [count]


def test_pruning_splits_the_whole_count_among_groups_and_never_misses_it():
    """Shares by largest remainder may shift by one as the total falls: the sum must be exact all the same."""
    schedule = Cubic(ScheduleSettings(initial=0.0, final=0.0, sparsity=0.9, start=0.0, end=1.0))
    sizes = [7, 11, 23, 5]
    active = list(sizes)
    for k in range(1, 101):
        gone = schedule.counts(active, sizes, k / 100)
        active = [n - g for n, g in zip(active, gone, strict=True)]
        assert min(gone) >= 0
        assert sum(active) == schedule.kept(sum(sizes), k / 100)


def test_a_falling_rate_ends_with_the_updates():
    """RigL (Evci et al. 2020): p = alpha / 2 (1 + cos(pi t / T_end)), here alpha = .3 and T_end at 3/4 of training."""
    rigl = ScheduleSettings(initial=0.3, final=0.0, sparsity=0.67, start=0.0, end=1.0, until=0.75)
    progress = (0.0, 0.1875, 0.375, 0.5625, 0.75, 1.0)
    cosine = [0.3, 0.15 * (1 + math.sqrt(0.5)), 0.15, 0.15 * (1 - math.sqrt(0.5)), 0.0, 0.0]
    assert [Cosine(rigl).rate(x) for x in progress] == pytest.approx(cosine)
    assert [Linear(rigl).rate(x) for x in progress] == pytest.approx([0.3, 0.225, 0.15, 0.075, 0.0, 0.0])
    assert [Constant(rigl).rate(x) for x in progress] == [0.3] * 6


def test_a_rate_falls_until_the_method_s_last_update(method):
    schedule = make_schedule(method(removal_rate=0.3, final_rate=0.1, update_until=0.5))
    assert [schedule.rate(x) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.3, 0.2, 0.1, 0.1])


def test_elastic_mutation_falls_in_two_steps():
    """MEST (Yuan et al. 2021), its scripts: p to epoch 90 of 160, p/2 to epoch 120, then none."""
    schedule = Steps(PAPER)
    assert [schedule.rate(epoch / 160) for epoch in (0, 89, 90, 119, 120, 160)] == [0.7, 0.7, 0.35, 0.35, 0.0, 0.0]
    assert schedule.counts([100, 10], [200, 200], 0.1) == [70, 7]
    assert schedule.excess([100, 10], [200, 200], 0.1) == [0, 0]


def test_a_soft_memory_bound_by_hand():
    """S = .9 of 200 and p = .5: 20 weights, 30 between updates, 25 after 3/4 of the window, 20 from its end on."""
    schedule = Elastic(ScheduleSettings(initial=0.5, final=0.0, sparsity=0.9, start=0.0, end=0.8))
    moves = []
    active = [10, 10]
    for progress in (0.2, 0.4, 0.65, 0.8, 0.9):
        removed = schedule.counts(active, [100, 100], progress)
        active = [n - lost for n, lost in zip(active, schedule.excess(active, [100, 100], progress), strict=True)]
        moves.append((removed, list(active)))
    assert moves == [
        ([0, 0], [15, 15]),  # the first adds to what it finds
        ([5, 5], [15, 15]),
        ([5, 5], [13, 12]),
        ([3, 2], [10, 10]),
        ([0, 0], [10, 10]),
    ]
    assert [schedule.sparsity(x) for x in (0.0, 0.2, 0.65, 0.8)] == pytest.approx([0.9, 0.85, 0.875, 0.9])


def test_a_sigmoid_decay_of_density():
    """CHTss (Zhang et al. 2025): s = s0 + (S - s0) (sigma(12 (u - 1/2)), scaled to 0 and 1 at the ends)."""
    settings = ScheduleSettings(initial=0.3, final=0.0, sparsity=0.9, start=0.0, end=0.8, start_sparsity=0.5)
    schedule = SigmoidRegrowth(settings)
    sigma = [1 / (1 + math.exp(-12 * (u - 0.5))) for u in (0.0, 0.25, 0.5, 1.0)]
    scaled = [(s - sigma[0]) / (sigma[-1] - sigma[0]) for s in sigma]
    found = [schedule.sparsity(x) for x in (0.0, 0.2, 0.4, 0.8)]
    assert found == pytest.approx([0.5 + 0.4 * share for share in scaled])
    assert schedule.sparsity(0.8) == schedule.sparsity(1.0) == 0.9
    # At u = 1/2, 60 of 200 are active; of 100 before, 40 go for good, and of the rest p = .15 (1 + cos .4 pi) = .196.
    assert schedule.excess([50, 50], [100, 100], 0.4) == [20, 20]
    assert schedule.counts([50, 50], [100, 100], 0.4) == [26, 26]


SCHEDULES = [lookup("schedule", name) for name in choices("schedule")]


@pytest.mark.parametrize("schedule", [each for each in SCHEDULES if each.prunes], ids=lambda each: each.__name__)
@pytest.mark.parametrize("start", [0.0, 0.4])
def test_every_schedule_that_prunes_keeps_exactly_what_it_asks_for(schedule, start):
    """Whatever the groups have: what an update loses for good, or gains, leaves `kept`, and fits into every group."""
    made = schedule(
        ScheduleSettings(
            initial=0.4, final=0.0, sparsity=0.87, start=0.1, end=0.9, start_sparsity=start, alternations=2
        )
    )
    sizes = [7, 11, 23, 5]
    active = [round(n * (1 - start)) for n in sizes]
    for k in range(10, 101):
        removed, excess = (of(active, sizes, k / 100) for of in (made.counts, made.excess))
        assert all(0 <= r <= n for r, n in zip(removed, active, strict=True))
        active = [n - lost for n, lost in zip(active, excess, strict=True)]
        assert all(r >= lost for r, lost in zip(removed, excess, strict=True))
        assert all(0 <= n <= size for n, size in zip(active, sizes, strict=True))
        assert sum(active) == made.kept(sum(sizes), k / 100) == round((1 - made.sparsity(k / 100)) * sum(sizes))
    assert sum(active) == round(0.13 * sum(sizes))


def test_a_phase_of_acdc_ends_where_it_should():
    """Two dense phases in the window from .1 to .9, four phases of .2 each: dense from .3 and from .7 on."""
    settings = ScheduleSettings(initial=0.0, final=0.0, sparsity=0.8, start=0.1, end=0.9, alternations=2)
    schedule = Alternating(settings)
    found = [schedule.sparsity(x) for x in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)]
    assert found == [0.0, 0.8, 0.0, 0.8, 0.0, 0.8]
    assert [k for k in range(1, 101) if schedule.turns((k - 1) / 100, k / 100)] == pytest.approx(
        [10, 30, 50, 70, 90], abs=1
    )
