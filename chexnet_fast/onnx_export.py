"""Write a trained run as an ONNX file, which needs neither this project nor torch to predict."""

import json
from pathlib import Path

import torch
from torch import nn

from chexnet_fast.trained import load_run
from shards.errors import UserError
from shards.files import whole_file

FINDINGS_KEY = "findings"
"""The entry of the file's metadata that lists the findings, in the order of the output, as JSON."""


class Probabilities(nn.Module):
    """Turn a model's logits into probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, F) probabilities."""
        return self.model(images).sigmoid()


def export_onnx(run: Path, file: Path) -> None:
    """Write a run's best model as ONNX, weights included, whole or not at all.

    Its input `images` is (B, 1, size, size) uint8, grey, for any B; its output `probabilities` is (B, F) float32, the
    numbers that `chexnet-fast evaluate` writes. The findings stand in the metadata.

    Raises:
        UserError: if the run cannot be read, the file cannot be written, or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401 (torch.onnx needs it, and says so less clearly)
    except ImportError as error:
        raise UserError("export needs onnxscript: install it with pip install 'chexnet-fast[onnx]'") from error
    trained = load_run(run, torch.device("cpu"))
    program = torch.onnx.export(
        Probabilities(trained.scorer()).eval(),
        (torch.zeros(2, 1, trained.size, trained.size, dtype=torch.uint8),),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # what torch.onnx.export returns where it is given no file
    program.model.metadata_props[FINDINGS_KEY] = json.dumps(trained.findings)
    with whole_file(file) as temporary:
        program.save(temporary, external_data=False)
