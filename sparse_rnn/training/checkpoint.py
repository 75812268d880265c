"""The checkpoint that a run resumes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import atomic
from sparse_rnn.core.reading import check_plain


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; `state` holds tensors, numbers, texts, lists and dictionaries only.

    Raises OSError if the disk is full or the folder cannot be written.
    """
    with atomic(path) as draft:
        try:
            torch.save(dict(state), draft)
        except RuntimeError as error:  # torch reports a failed write so
            raise OSError(f"writing {path.name} failed: {str(error).splitlines()[0]}") from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None if there is no file. Runs no code from it. Raises DamagedFile."""
    if not path.exists():
        return None
    try:
        check_plain(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedFile(f"{path} is damaged: remove it to restart the run.") from error
    assert isinstance(state, dict)
    return state


def on_host(state: Any) -> Any:
    """A copy of a state whose tensors are on the CPU; those of a GPU are still on their way, in pinned memory."""
    if isinstance(state, torch.Tensor):
        return state.to("cpu", non_blocking=True) if state.is_cuda else state.clone()
    if isinstance(state, Mapping):
        return {key: on_host(value) for key, value in state.items()}
    return type(state)(map(on_host, state)) if isinstance(state, list | tuple) else state


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
