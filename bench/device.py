"""The device that a benchmark measures."""

import torch

from shards.errors import UserError


def find_device(name: str) -> torch.device:
    """Return the device of a name, "cpu" or "cuda".

    Raises:
        UserError: if it is cuda and there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU; give --device cpu, or mend the driver")
    return torch.device(name)
