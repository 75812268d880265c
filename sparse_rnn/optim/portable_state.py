"""Checkpoints of an optimizer that fit every device."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

OF_THE_DEVICE = ("fused", "foreach", "capturable")


def cuda_flags(parameters: Sequence[nn.Parameter], **flags: bool) -> dict[str, bool]:
    """`flags` for torch's optimizer if all parameters are on CUDA devices, else none."""
    return flags if all(parameter.device.type == "cuda" for parameter in parameters) else {}


def make_portable(optimizer: Optimizer) -> None:
    """Let loading keep the flags OF_THE_DEVICE as they are here. Loading raises ValueError for other groups."""

    def with_own_flags(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        groups = [
            saved | {key: own[key] for key in OF_THE_DEVICE if key in own}
            for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
        ]
        return state | {"param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(with_own_flags)
