import io
from pathlib import Path

import pytest
from tiny_nih import folder_bytes, image_name, pack_tiny, write_nih
from tqdm import tqdm

from shards.cluster import run_on_cluster
from shards.errors import UserError
from shards.workers import count

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def square(number: int) -> int:
    count(number)
    return number * number


def fail(number: int) -> int:
    raise UserError(f"task {number}")


def test_every_result_comes_and_the_bar_counts(scheduler: str) -> None:
    bar = tqdm(total=45, file=io.StringIO())
    assert sorted(run_on_cluster(scheduler, square, range(10), bar)) == [number**2 for number in range(10)]
    assert bar.n == 45


def test_the_first_error_of_a_task_is_raised(scheduler: str) -> None:
    with pytest.raises(UserError, match="task [0-3]"):
        list(run_on_cluster(scheduler, fail, range(100), tqdm(disable=True)))


def test_a_cluster_packs_the_same_bytes(scheduler: str, tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    pack_tiny(tmp_path / "here", images, labels)
    pack_tiny(tmp_path / "there", images, labels, dask=scheduler)
    assert folder_bytes(tmp_path / "here") == folder_bytes(tmp_path / "there")


def test_bad_input_leaves_nothing_on_the_clusters_storage(scheduler: str, tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / image_name(4, 1)).write_bytes(b"")
    with pytest.raises(UserError, match="empty file"):
        pack_tiny(tmp_path / "out", images, labels, dask=scheduler)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.cluster.CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(UserError, match=f"--dask {address}: no scheduler answers"):
            list(run_on_cluster(address, square, [1], tqdm(disable=True)))
