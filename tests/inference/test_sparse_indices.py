"""Where the entries of a sparse matrix stand, as the tensors of a file."""

import pytest
import torch

from sparse_rnn.inference.sparse_indices import PARTS, index_type, pack_positions, unpack_positions


@pytest.mark.parametrize("layout", PARTS)
@pytest.mark.parametrize("share", [0, 1e-3, 0.3, 1])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 9), (7, 65_536), (3, 70_000)])
def test_positions_survive(shape, share, layout):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share
    expected = mask.flatten().nonzero().flatten()
    parts = pack_positions(expected, *shape, layout)
    assert set(parts) == set(PARTS[layout])
    assert torch.equal(unpack_positions(parts, *shape, len(expected), layout), expected)
    if layout == "csr":
        assert parts["columns"].dtype == (torch.uint16 if shape[1] <= 65_536 else torch.int32)


def test_gaps_on_both_sides_of_the_longest():
    expected = torch.tensor([65_535, 131_069, 196_604, 262_140, 262_141])
    parts = pack_positions(expected, 4, 70_000, "coo")
    assert parts["gaps"].tolist() == [65_535, 65_534, 65_535, 65_535, 1]
    assert parts["long_gaps"].tolist() == [65_535, 65_535, 65_536]
    assert torch.equal(unpack_positions(parts, 4, 70_000, 5, "coo"), expected)


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [(65_536, torch.uint16), (65_537, torch.int32), (1 << 31, torch.int32), ((1 << 31) + 1, torch.int64)],
)
def test_an_index_has_the_narrowest_type(bound, dtype):
    assert index_type(bound) == dtype
    assert torch.tensor(bound - 1).to(dtype).to(torch.int64) == bound - 1


@pytest.mark.parametrize("value", [-1, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_long_gaps_and_starts_cannot_overflow(value):
    """In a matrix so large that both are 64-bit numbers."""
    with pytest.raises(ValueError, match="long gap"):
        unpack_positions(
            {"gaps": torch.tensor([65_535, 1]).to(torch.uint16), "long_gaps": torch.tensor([value])},
            *(1 << 20, 1 << 20, 2, "coo"),
        )
    with pytest.raises(ValueError, match="starts"):
        unpack_positions({"starts": torch.tensor([0, -1, 0, 0]).int()}, 3, 5, 70_000, "csr")
