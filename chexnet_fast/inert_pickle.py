"""Unpickle tensors and plain containers; every other class and function becomes an inert stand-in, and none is called.

This module takes the place of `pickle` in `torch.load(file, pickle_module=inert_pickle)`: nothing that the file names
is imported, so that a checkpoint with a pickled model opens without the model's code, and a malicious one does nothing.
"""

import collections
import pickle
from typing import Any, BinaryIO

import torch

HARMLESS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
}
"""What a file may call by its module and name; torch.load itself resolves the names of tensor storages."""


class Inert:
    """What an instance of any other class becomes: the arguments and the state that were pickled for it."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "Inert":
        """Keep the arguments that the class or function would have been called with."""
        instance = super().__new__(cls)
        instance.args = args
        instance.state = None
        return instance

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Unpickler(pickle.Unpickler):
    """An unpickler that looks every name up here, and nowhere else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the harmless class or function of that name, or else a new kind of Inert."""
        return HARMLESS.get((module, name)) or type(f"{module}.{name}", (Inert,), {})


def load(file: BinaryIO, **options: Any) -> Any:
    """Read one pickle from a file; torch.load calls this for the old format, which holds several."""
    return Unpickler(file, **options).load()
