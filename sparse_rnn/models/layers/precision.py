"""The precision that a recurrence computes its products in."""

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of products with a weight: the one of torch.autocast where it is on, else the weight's own.

    Like autocast itself, this leaves weights that are not float32 as they are.
    """
    device = weight.device.type
    if weight.dtype != torch.float32 or not torch.amp.is_autocast_available(device):
        return weight.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
