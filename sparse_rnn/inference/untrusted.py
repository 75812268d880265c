"""What protects the readers of model files, which need not be trusted."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

UNREADABLE = (
    *(SafetensorError, OSError, MemoryError, RecursionError, ArithmeticError),
    *(KeyError, TypeError, ValueError, AttributeError, RuntimeError),
)


def reason(error: Exception) -> str:
    """An error in a few words of one line, for the end of a sentence."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).splitlines()[0][:300].rstrip(".")


def refuse_large_sizes(config: Any, sizes: Collection[Any], most: int) -> None:
    """Raise ValueError unless the sizes are numbers of at least 1 and, like those of the model, at most `most`."""
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError("its sizes are not numbers of at least 1")
    numbers = [n for value in vars(config).values() for n in (value if isinstance(value, list) else [value])]
    if any(isinstance(number, int) and number > most for number in (*sizes, *numbers)):
        raise ValueError("a size is larger than the file")


def skeleton_of(config: Any, sizes: Collection[int], most: int) -> nn.Module:
    """A model on the meta device: without memory for its parameters.

    Raises ValueError as soon as there are more than `most`: on the meta device a huge model costs nothing, but a huge
    number of layers would.
    """
    with torch.device("meta"), _Undrawn(), _no_more_parameters_than(most):
        model: nn.Module = config.build(*sizes)
    return model


class _Undrawn(TorchFunctionMode):
    """Draws no normal numbers: for those of the meta device, which are none, torch imports its compiler (a second)."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if function in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else given["tensor"]
        return function(*args, **given)


@contextmanager
def _no_more_parameters_than(most: int) -> Iterator[None]:
    """Raise ValueError as soon as the modules built inside have more parameters than `most`."""
    count = 0

    def registered(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError("its configuration has more weights than the file")

    handle = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()


def refuse_other_names(expected: Collection[str], found: Collection[str]) -> None:
    """Raise ValueError unless a file has the tensors that are expected, and no others."""
    if wrong := sorted(set(expected) ^ set(found)):
        raise ValueError(f"{wrong[0]!r} is {'missing' if wrong[0] in expected else 'not of the model'}")
