from collections.abc import Iterator

import numpy as np
import pytest
import torch
from memory_loader import FINDINGS, MemoryLoader
from torch import nn

from chexnet_fast.predict import predict
from pipelines.batch import Batch

CPU = torch.device("cpu")


class Quadrants(nn.Module):
    """Logits are the mean brightness of three quadrants, as MemoryLoader draws its findings."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return (mean[:, :3] - 100) / 20


def test_predictions_come_in_table_order_with_float32_probabilities() -> None:
    loader = MemoryLoader(50, 8, shuffle=True, first_row=7)
    predictions = predict(Quadrants(), loader, loader.table(), FINDINGS, CPU)
    expected = Quadrants()(torch.from_numpy(loader.images)).sigmoid().numpy()
    assert np.array_equal(predictions.rows, np.arange(7, 57))
    assert np.array_equal(predictions.probabilities, expected)
    assert predictions.probabilities.dtype == np.float32
    assert np.array_equal(predictions.labels, loader.labels)
    assert predictions.image_ids[0] == "00000007_000.png"
    assert predictions.findings == FINDINGS


class Faulty(MemoryLoader):
    """A loader that gives its last image's row another number."""

    def __init__(self, number: int) -> None:
        super().__init__(20, 4, shuffle=False)
        self.number = number

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(index, first_batch):
            yield Batch(batch.images, batch.labels, np.where(batch.rows == 19, self.number, batch.rows))


@pytest.mark.parametrize("number", [0, 20])
def test_a_row_twice_or_from_elsewhere_is_an_error(number: int) -> None:
    loader = Faulty(number)
    with pytest.raises(RuntimeError, match="not the fold's 20"):
        predict(Quadrants(), loader, loader.table(), FINDINGS, CPU)


def test_a_missing_batch_is_an_error() -> None:
    class Short(MemoryLoader):
        def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
            return super().epoch(index, 1)

    loader = Short(20, 4, shuffle=False)
    with pytest.raises(RuntimeError, match="gave 16 images"):
        predict(Quadrants(), loader, loader.table(), FINDINGS, CPU)
