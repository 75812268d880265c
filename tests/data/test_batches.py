"""Windows: what they cover, where they go on, how long they are."""

from statistics import mean

import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.batches import Batch, Windows, side_by_side

SHAPES = pytest.mark.parametrize("variable", [False, True], ids=["fixed", "variable"])


def numbered(tokens: int, batch: int) -> torch.Tensor:
    """A text whose tokens are their own places."""
    return side_by_side(torch.arange(tokens), batch, split="train")


def lengths(windows: Windows) -> list[int]:
    return [batch.inputs.shape[0] for batch in windows.after(0)]


def as_lists(batches: list[Batch]) -> list[tuple[int, list[list[int]], list[list[int]]]]:
    return [(batch.index, batch.inputs.tolist(), batch.targets.tolist()) for batch in batches]


def test_columns_are_consecutive_pieces_of_the_text() -> None:
    rows = numbered(23, 4)
    assert rows.t().tolist() == [list(range(5 * i, 5 * i + 5)) for i in range(4)]


def test_a_text_too_short_for_the_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^The valid split has 7 tokens: too few for a batch of 4\.$"):
        side_by_side(torch.arange(7), 4, split="valid")
    assert side_by_side(torch.arange(8), 4, split="valid").shape == (2, 4)


@SHAPES
@pytest.mark.parametrize("tokens", [8, 12, 150, 151, 284, 288, 292, 4001])
def test_windows_cover_the_text_once_in_order(tokens: int, variable: bool) -> None:
    rows = numbered(tokens, 4)
    windows = Windows(rows, 35, variable=variable, seed=3)
    batches = list(windows.after(0))
    assert [batch.index for batch in batches] == list(range(len(windows)))
    assert torch.cat([batch.inputs for batch in batches]).equal(rows[:-1])
    assert torch.cat([batch.targets for batch in batches]).equal(rows[1:])
    assert sum(batch.targets.numel() for batch in batches) == (windows.rows.shape[0] - 1) * windows.rows.shape[1]


@SHAPES
def test_targets_are_inputs_shifted_by_one(variable: bool) -> None:
    for batch in Windows(numbered(4000, 4), 35, variable=variable).after(0):
        assert batch.targets.equal(batch.inputs + 1)


@SHAPES
def test_going_on_is_the_same_as_skipping(variable: bool) -> None:
    def windows() -> Windows:
        return Windows(numbered(4000, 4), 35, variable=variable, seed=1, epoch=2)

    everything = as_lists(list(windows().after(0)))
    for position in (1, 7, len(everything) - 1, len(everything)):
        assert as_lists(list(windows().after(position))) == everything[position:]


def test_penn_treebank_has_1328_windows() -> None:
    windows = Windows(side_by_side(torch.zeros(929_589, dtype=torch.int64), 20, split="train"), 35)
    assert len(windows) == 1328
    assert lengths(windows) == [35] * 1327 + [33]


def test_variable_lengths_depend_on_seed_and_epoch_only() -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        return lengths(Windows(numbered(8000, 4), 35, variable=True, seed=seed, epoch=epoch))

    first = drawn(1, 0)
    torch.manual_seed(99)
    assert drawn(1, 0) == first
    assert drawn(1, 1) != first
    assert drawn(2, 0) != first
    before = torch.get_rng_state()
    drawn(3, 0)
    assert torch.get_rng_state().equal(before), "the global generator is left alone"


def test_variable_lengths_are_mostly_near_bptt() -> None:
    drawn = lengths(Windows(numbered(200_000, 2), 35, variable=True))[:-1]
    short = [length for length in drawn if length < 26]
    assert min(drawn) >= 5
    assert 33 < mean(drawn) < 35, "0.95 x 35 + 0.05 x 17.5, rounded down"
    assert 0.03 < len(short) / len(drawn) < 0.11
