"""The positions of a sparse matrix's entries as tensors of a file: compressed rows, coordinates or one bit an entry.

Positions are row-major, row * columns + column, int64 [n], strictly increasing. Every index has the narrowest type
that holds its largest possible value (`index_type`), so that a large float32 matrix takes 6 bytes per entry.

csr   columns [n]: the column of each entry; starts [rows + 1]: row r has entries starts[r] to starts[r + 1] - 1
coo   gaps, uint16 [n]: each position minus the one before, the first minus zero; a gap of 65,535 stands for the next
      of long_gaps, int64: all gaps of 65,535 or more
packed  bitmap, uint8 [ceil(rows * columns / 8)]: a bit for every entry, 1 where it is active, row-major, the first in
      the highest bit of its byte; the bits after the last entry are 0
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparse_rnn.sparsity.topology import pack_bits, unpack_bits

LONG = 65_535
NARROW = ((torch.uint16, 1 << 16), (torch.int32, 1 << 31))
PARTS = {"csr": ("columns", "starts"), "coo": ("gaps", "long_gaps"), "packed": ("bitmap",)}


def index_type(bound: int) -> torch.dtype:
    """The first of uint16, int32 and int64 that holds every number below `bound`."""
    return next((dtype for dtype, end in NARROW if bound <= end), torch.int64)


def pack_positions(positions: Tensor, rows: int, columns: int, layout: str) -> dict[str, Tensor]:
    """The index tensors of a layout by name; positions: int64 [n]."""
    if layout == "packed":
        return {"bitmap": pack_bits(_mask_of(positions, rows * columns))}
    if layout == "coo":
        gaps = torch.diff(positions, prepend=positions.new_zeros(1))
        long = gaps >= LONG
        return {"gaps": gaps.masked_fill(long, LONG).to(torch.uint16), "long_gaps": gaps[long]}
    counts = torch.bincount(positions // columns, minlength=rows)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return {
        "columns": (positions % columns).to(index_type(columns)),
        "starts": starts.to(index_type(len(positions) + 1)),
    }


def unpack_positions(parts: Mapping[str, Tensor], rows: int, columns: int, count: int, layout: str) -> Tensor:
    """The positions that were packed, int64 [count]; raises ValueError unless they rise inside the matrix."""
    if layout == "packed":
        return _from_bitmap(parts["bitmap"], rows * columns, count).nonzero().flatten()
    positions = _from_gaps(parts, rows * columns, count) if layout == "coo" else _from_rows(parts, rows, columns, count)
    if count and not (bool((positions[1:] > positions[:-1]).all()) and 0 <= positions[0] <= positions[-1]):
        raise ValueError("its positions do not rise")
    if count and positions[-1] >= rows * columns:
        raise ValueError("a position is outside the matrix")
    return positions


def unpack_mask(parts: Mapping[str, Tensor], rows: int, columns: int, count: int, layout: str) -> Tensor:
    """The mask whose positions were packed, bool [rows, columns]; raises ValueError as `unpack_positions` does."""
    if layout == "packed":
        return _from_bitmap(parts["bitmap"], rows * columns, count).view(rows, columns)
    return _mask_of(unpack_positions(parts, rows, columns, count, layout), rows * columns).view(rows, columns)


def _mask_of(positions: Tensor, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[positions] = True
    return mask


def _from_bitmap(bitmap: Tensor, size: int, count: int) -> Tensor:
    expect(bitmap, "bitmap", torch.uint8, [(size + 7) // 8])
    if size % 8 and int(bitmap[-1]) & (0xFF >> size % 8):
        raise ValueError("its bitmap goes on after the last entry")
    mask = unpack_bits(bitmap, [size])
    if (active := int(mask.count_nonzero())) != count:
        raise ValueError(f"its bitmap has {active:,} active entries, and there are {count:,} values")
    return mask


def _from_gaps(parts: Mapping[str, Tensor], size: int, count: int) -> Tensor:
    gaps = _whole(parts["gaps"], "gaps", torch.uint16, count)
    long = gaps == LONG
    long_gaps = _whole(parts["long_gaps"], "long_gaps", torch.int64, int(long.count_nonzero()))
    if not bool(((long_gaps >= LONG) & (long_gaps < size)).all()):
        raise ValueError(f"a long gap is shorter than {LONG:,} or longer than the matrix")
    gaps[long] = long_gaps
    return gaps.cumsum(0)


def _from_rows(parts: Mapping[str, Tensor], rows: int, columns: int, count: int) -> Tensor:
    starts = _whole(parts["starts"], "starts", index_type(count + 1), rows + 1)
    if starts[0] != 0 or starts[-1] != count or not bool((starts[1:] >= starts[:-1]).all()):
        raise ValueError(f"its starts do not rise from 0 to {count:,}")
    column = _whole(parts["columns"], "columns", index_type(columns), count)
    if not bool(((column >= 0) & (column < columns)).all()):
        raise ValueError("a column is outside the matrix")
    return torch.repeat_interleave(torch.arange(rows), starts.diff()) * columns + column


def _whole(tensor: Tensor, name: str, dtype: torch.dtype, length: int) -> Tensor:
    """The tensor as int64; raises ValueError unless it has this type and length."""
    expect(tensor, name, dtype, [length])
    return tensor.to(torch.int64)


def expect(tensor: Tensor, name: str, dtype: torch.dtype, shape: list[int]) -> None:
    """Raise ValueError unless a tensor has this type and shape."""
    if tensor.dtype != dtype or list(tensor.shape) != shape:
        raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)} and must be {dtype} {shape}")
