"""Epochs are exact: each image once over all ranks, the same from any point on, whatever came before."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from epochs import FLIPPED, SIZE, assert_equal_epochs, epoch_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build import build_loader
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.spec import InputSpec
from shards.fold import open_fold
from shards.manifest import read_manifest

TRAINING = {"fold": "train", "spec": FLIPPED, "seed": 1, "shuffle": True}
EVALUATION = {"fold": "train", "spec": InputSpec(SIZE)}


@pytest.mark.parametrize("settings", [TRAINING, EVALUATION], ids=["training", "evaluation"])
@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_from_20_random_stop_points_the_rest_of_an_epoch_is_equal(packed, codec, settings):
    random = np.random.default_rng(20)
    for _ in range(20):
        batch_size, epoch = random.integers(1, 14).item(), random.integers(50).item()
        stopped, fresh = (build_loader("dali", packed[codec], batch_size=batch_size, **settings) for _ in range(2))
        stop = random.integers(1, stopped.num_batches).item()
        whole = epoch_of(stopped, epoch)
        for _ in islice(stopped.epoch(epoch), stop):
            pass
        rest = tuple(part[stop * batch_size :] for part in whole)
        for loader in (stopped, fresh):
            assert_equal_epochs(epoch_of(loader, epoch, stop), rest)


@settings(deadline=None, max_examples=25)
@given(
    num_images=st.integers(1, 28),
    batch_size=st.integers(1, 12),
    num_ranks=st.integers(1, 8),
    shuffle=st.booleans(),
    epoch=st.integers(0, 9),
)
def test_ranks_share_an_epoch_exactly(packed, num_images, batch_size, num_ranks, shuffle, epoch):
    fold = open_fold(packed["raw"], read_manifest(packed["raw"]), "train").take(np.arange(num_images))
    orders = [EpochOrder(num_images, batch_size, 0, shuffle, rank, num_ranks) for rank in range(num_ranks)]
    ranks = [DaliLoader(fold, FLIPPED, order, torch.device("cpu"), num_threads=1) for order in orders]
    batches = [list(loader.epoch(epoch)) for loader in ranks]
    assert {len(of_rank) for of_rank in batches} == {ranks[0].num_batches}
    rows = np.concatenate([batch.rows for of_rank in batches for batch in of_rank])
    assert np.array_equal(np.sort(rows), fold.rows)


ROWS_OF_A_RANK = """
import sys
from pathlib import Path
from pipelines.build import build_loader
from pipelines.spec import InputSpec
shards, rank = Path(sys.argv[1]), int(sys.argv[2])
loader = build_loader("dali", shards, "train", InputSpec(24, flip=0.5), 3, shuffle=True, rank=rank, num_ranks=3)
for batch in loader.epoch(2):
    print(*batch.rows)
"""


def test_three_processes_share_an_epoch_in_the_batches_of_one(packed):
    command = [sys.executable, "-c", ROWS_OF_A_RANK, str(packed["jpeg"])]
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(3)]
    rows = [process.communicate(timeout=120)[0].splitlines() for process in ranks]
    together = [[int(row) for line in lines for row in line.split()] for lines in zip(*rows, strict=True)]
    one_process = build_loader("dali", packed["jpeg"], "train", FLIPPED, 9, shuffle=True)
    assert together == [batch.rows.tolist() for batch in one_process.epoch(2)]
    assert "" in [lines[-1] for lines in rows]  # 28 images: the last of four batches holds one
    assert sorted(sum(together, [])) == open_fold(packed["jpeg"], read_manifest(packed["jpeg"]), "train").rows.tolist()


def test_the_number_of_threads_changes_nothing(packed):
    one, four = (
        epoch_of(build_loader("dali", packed["jpeg"], "train", FLIPPED, 7, shuffle=True, num_threads=threads), 2)
        for threads in (1, 4)
    )
    assert_equal_epochs(one, four)


def num_resident_bytes() -> int:
    """The memory of this process that lies in no file."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["RssAnon"].split()[0])


@pytest.mark.parametrize(
    ("codec", "kind", "num_threads"),
    [("raw", "dali", 2), ("jpeg", "dali", 2), ("jpeg", "resident", 2), ("jpeg", "pil-shards", 0)],
)
def test_forty_epochs_leave_less_memory_behind_than_one_holds(packed, codec, kind, num_threads):
    spec = InputSpec(96, channels=3, dtype="float32", flip=0.5)
    loader = build_loader(kind, packed[codec], "train", spec, 8, shuffle=True, num_threads=num_threads)
    sizes = []
    for epoch in range(50):
        num_bytes = sum(batch.images.nbytes for batch in loader.epoch(epoch))
        sizes.append(num_resident_bytes())
    # Allocators keep a few MiB more or less from one epoch to the next: what is left behind stays in all of the last.
    assert min(sizes[-10:]) - max(sizes[:10]) < num_bytes
