"""Run a model over a fold: every image once, in table order, whatever the number of ranks."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from chexnet_fast import distributed
from chexnet_fast.predictions import Predictions
from pipelines.batch import Loader


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    loader: Loader,
    rows: np.ndarray,
    device: torch.device,
    amp_dtype: torch.dtype = torch.float32,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a model over one epoch of a loader and gather all ranks' logits.

    The model is left in evaluation mode.

    Args:
        model: on `device`; takes the loader's images and returns (B, F) logits.
        loader: this rank's; its epoch 0 is read.
        rows: (N,) the fold's rows of the study table, ascending.
        device: where to compute.
        amp_dtype: arithmetic of the forward pass; float32 is without autocast.
        after_batch: is called after each batch.

    Returns:
        logits and labels, (N, F) float32 on the CPU, in the order of `rows`; equal on all ranks.

    Raises:
        RuntimeError: unless the ranks' batches hold exactly `rows`, each once.
    """
    model.eval()
    parts = []
    hidden = None if distributed.rank() == 0 else True
    for batch in tqdm(loader.epoch(0), "predict", loader.num_batches, leave=False, disable=hidden):
        with torch.autocast(device.type, amp_dtype, enabled=amp_dtype != torch.float32):
            logits = model(batch.to(device).images)
        parts.append((batch.rows, logits.float(), batch.labels))
        after_batch()
    own_rows, own_logits, own_labels = zip(*parts, strict=True)
    own = (np.concatenate(own_rows), torch.cat(own_logits).cpu(), torch.cat(own_labels).cpu())
    all_rows, all_logits, all_labels = zip(*distributed.gather(own), strict=True)
    found = np.concatenate(all_rows)
    by_row = np.argsort(found, kind="stable")
    if not np.array_equal(found[by_row], rows):
        raise RuntimeError(
            f"the loader gave {len(found)} images ({len(np.unique(found))} different ones), "
            f"which are not the fold's {len(rows)}"
        )
    return torch.cat(all_logits)[by_row], torch.cat(all_labels)[by_row]


def predict(
    model: nn.Module,
    loader: Loader,
    table: pd.DataFrame,
    findings: Sequence[str],
    device: torch.device,
    amp_dtype: torch.dtype = torch.float32,
) -> Predictions:
    """Predict a fold: `predict_logits`, then a sigmoid in float32.

    Args:
        model: as for predict_logits.
        loader: as for predict_logits.
        table: the fold's rows of the study table, in table order.
        findings: the model's logits, in order.
        device: where to compute.
        amp_dtype: arithmetic of the forward pass; float32 is without autocast.

    Returns:
        One row an image of the fold, in table order, with the labels that the loader gave; equal on all ranks.

    Raises:
        RuntimeError: unless the loader gives exactly the table's rows.
    """
    rows = table["row"].to_numpy(np.int32)
    logits, labels = predict_logits(model, loader, rows, device, amp_dtype)
    return to_predictions(logits, labels, table, findings)


def to_predictions(
    logits: torch.Tensor, labels: torch.Tensor, table: pd.DataFrame, findings: Sequence[str]
) -> Predictions:
    """Name the images of (N, F) logits and labels in table order, and turn the logits into probabilities."""
    return Predictions(
        image_ids=table["image_id"].tolist(),
        rows=table["row"].to_numpy(np.int32),
        probabilities=logits.sigmoid().numpy(),
        labels=labels.numpy(),
        findings=tuple(findings),
    )
