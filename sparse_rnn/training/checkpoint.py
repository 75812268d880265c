"""The checkpoint that a run resumes from. The one before it is kept, for the case that it is damaged."""

import errno
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparse_rnn.core.device import device_failure
from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import atomic
from sparse_rnn.core.reading import open_plain

DAMAGE = (errno.EIO, errno.EINVAL)  # what the system says of a bad disk, and of a place that a damaged index names


def save_checkpoint(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint atomically; `previous`: the name that the old one is kept under.

    `state` holds tensors, numbers, texts, lists and dictionaries only. Raises OSError if the disk is full or the folder
    cannot be written.
    """
    with atomic(path, previous) as draft, draft.open("rb+") as stream:
        try:
            torch.save(dict(state), stream)
        except RuntimeError as error:  # torch's, in place of what the system has said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None if there is no file. Runs no code from it.

    Raises DamagedFile, and OSError if the file, which may be sound, cannot be read.
    """
    try:
        with open_plain(path) as stream:
            if zipfile.ZipFile(stream).testzip() is not None:  # torch does not look at the checksums
                raise ValueError
            stream.seek(0)
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        if failure := device_failure(error):
            raise failure from error
        raise DamagedFile(f"{path} is damaged") from error
    if not isinstance(state, dict):
        raise DamagedFile(f"{path} is damaged")
    return state


def on_host(state: Any, copies: dict[tuple[Any, ...], torch.Tensor] | None = None) -> Any:
    """A copy of a state whose tensors are on the CPU; those of a GPU are still on their way, in pinned memory.

    A tensor that occurs twice, as that of tied weights does, is copied once. copies: those made so far.
    """
    copies = {} if copies is None else copies
    if isinstance(state, torch.Tensor):
        place = _place(state)
        if place not in copies:
            copies[place] = state.to("cpu", non_blocking=True) if state.is_cuda else state.clone()
        return copies[place]
    if isinstance(state, Mapping):
        return {key: on_host(value, copies) for key, value in state.items()}
    return type(state)(on_host(value, copies) for value in state) if isinstance(state, list | tuple) else state


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Where a tensor lies, and how it is read there: equal for two that are one."""
    memory = tensor.untyped_storage()._cdata, tensor.storage_offset()
    return *memory, tensor.shape, tensor.stride(), tensor.dtype


def sent_to_host(state: Any, device: torch.device) -> tuple[Any, torch.cuda.Event]:
    """`on_host` of a state on a GPU, and the event after which all of it has arrived; the state may change at once."""
    # When pinned memory is given back, whenever that is, torch marks the place in the stream that wrote to it. So that
    # must be no stream that steps are recorded on; torch hands out 32 streams in turns.
    used = torch.cuda.current_stream(device)
    own = next(stream for _ in range(2) if (stream := torch.cuda.Stream(device)) != used)  # type: ignore[no-untyped-call]
    own.wait_stream(used)
    with torch.cuda.stream(own):
        copied = on_host(state)
    used.wait_stream(own)
    return copied, own.record_event()
