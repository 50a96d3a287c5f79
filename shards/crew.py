"""Who does a packing's tasks: processes of this machine, or a cluster."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from shards.cluster import run_on_cluster
from shards.workers import run_tasks

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Crew:
    """`num_workers` processes here, or the cluster whose scheduler is at the address `dask`."""

    num_workers: int | None
    dask: str | None
    progress: bool

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], bar: tqdm
    ) -> Generator[Result, None, None]:
        """Yield the tasks' results as they end; see `shards.workers.run_tasks` and `shards.cluster.run_on_cluster`."""
        if self.dask:
            return run_on_cluster(self.dask, function, tasks, bar)
        return run_tasks(function, tasks, self.num_workers, bar)

    def bar(self, description: str, num_images: int, num_done: int = 0) -> tqdm:
        """Make a progress bar that counts images."""
        return tqdm(total=num_images, initial=num_done, unit="img", desc=description, disable=not self.progress)
