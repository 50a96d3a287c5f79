"""The training benchmark measures every way in one run, and says what each row is a share of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_nih import pack_tiny, write_nih
from torch import nn

from bench import limits, steps, training
from bench.device import find_device
from bench.gpu_watch import GpuWatch
from bench.limits import measure_limits
from bench.measure import Rate
from bench.training import bench_training
from bench.training_report import HEADINGS, TrainingRow, format_training_rows, read_training_rows, training_cells
from chexnet_fast.config import fast
from shards.errors import UserError

CPU = torch.device("cpu")
ROW = TrainingRow("ours", "DALI cuda", "raw 224", Rate(2000.0, 1900.0, 2100.0), 128, "bfloat16", Rate(8000.0, 1.0, 2.0))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nih")
    images, labels = write_nih(folder)
    pack_tiny(folder / "raw", images, labels, size=64)
    config = replace(fast(), device="cpu", batch_size=2, size=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "NUM_ROUNDS", 1)
        patch.setattr(training, "SLOW_VAL", 2)
        patch.setattr(training, "REFERENCE_BATCH", 2)
        patch.setattr(steps, "NUM_WARMUP", 1)
        patch.setattr(limits, "NUM_REPEATS", 1)
        rows = bench_training(
            [folder / "raw"], folder / "out", config, num_workers=1, seconds=0.0, num_train=8, num_val=4
        )
    return folder / "out", rows


@pytest.mark.slow
def test_every_way_is_measured_from_the_reference_to_the_limits(measured):
    out, rows = measured
    assert [(row.family, row.name, row.reads) for row in rows[:7]] == [
        ("reference", "reference", "files"),
        ("plain", "plain timm loop, eager", "one batch"),
        ("ceiling", "no loader: the ceiling", "one batch"),
        ("ours", "PIL DataLoader", "files"),
        ("ours", "PIL DataLoader", "raw 64"),
        ("ours", "DALI cpu", "raw 64"),
        ("ours", "resident cpu", "raw 64"),
    ]
    assert [row.name for row in rows[7:]] == ["limit: arithmetic", "limit: memory"]
    assert rows[0].ratio == 1
    assert rows[2].share == 1
    for row in rows[:7]:
        assert row.epoch_seconds == pytest.approx(78_468 / row.train.median + 11_219 / row.val.median)
    for row in rows[2:7]:
        assert 0 <= row.data_wait <= 1
    assert read_training_rows(out / "training.jsonl")[0] == rows
    assert {path.name for path in out.iterdir()} == {f"training.{kind}" for kind in ("jsonl", "md", "png", "html")}


def test_a_row_reads_as_text():
    cells = dict(zip(HEADINGS, training_cells(replace(ROW, data_wait=0.004, gpu_memory=2.5e9)), strict=True))
    assert cells["training img/s (95 % interval)"] == "2,000 (1,900 - 2,100)"
    assert (cells["waiting for data"], cells["GPU memory"], cells["GPU busy"]) == ("0.4%", "2.5 GB", "")


def test_columns_that_are_empty_everywhere_are_left_out():
    head = format_training_rows([ROW]).splitlines()[0]
    assert "batch" in head
    assert "GPU busy" not in head


def test_limits_count_a_convolutions_operations_and_bytes(monkeypatch):
    monkeypatch.setattr(limits, "NUM_REPEATS", 1)
    counted = measure_limits(Convolution(), 8, CPU, torch.float32)
    # 2 x 3 x 3 x 8 x 8 operations a channel forward; the first layer's input needs no gradient: as many again backward.
    assert counted.flops == 2 * (2 * 9 * 64 * 4)
    assert counted.num_bytes == 3 * (64 + 4 * 64) * 4
    assert counted.arithmetic == counted.flops_per_second / counted.flops
    assert counted.bandwidth == counted.bytes_per_second / counted.num_bytes


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1, bias=False)

    def forward(self, images):
        return self.convolution(images.float())


def test_a_gpu_is_as_busy_as_its_samples_between_two_times():
    watch = GpuWatch(CPU)
    watch._samples = [(1.0, 0.0), (2.0, 0.9), (3.0, 1.0), (4.0, 0.0)]
    assert watch.busy_between(1.5, 3.5) == pytest.approx(0.95)
    assert watch.busy_between(5, 6) is None


def test_one_batch_is_a_whole_epoch_of_different_rows():
    loader = steps.OneBatch(10, 4, 8, 2, CPU)
    batches = list(loader.epoch(0))
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.rows for batch in batches]), np.arange(10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_benchmark_on_a_gpu_that_is_not_there_names_the_way_out():
    assert find_device("cpu") == CPU
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU; give --device cpu"):
        find_device("cuda")
