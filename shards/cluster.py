"""Tasks on an existing dask.distributed cluster, whose machines see the same files under the same paths."""

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from shards.errors import UserError
from shards.workers import counter

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_PER_THREAD = 2
"""Tasks sent ahead for each of the cluster's threads: one at work, one at hand."""
CONNECT_SECONDS = 30


def run_on_cluster(
    address: str, function: Callable[[Task], Result], tasks: Iterable[Task], bar: tqdm
) -> Generator[Result, None, None]:
    """Yield `function(task)` for each task, as they end; as `shards.workers.run_tasks`, on the cluster's processes.

    The bar moves as tasks end. An exception, or closing the iterator, sends no further task and returns when those
    sent have ended, so that nothing is written afterwards.

    Args:
        address: of the scheduler, as tcp://scheduler:8786.
        function: a module's function that the cluster can import; it calls `shards.workers.count`.
        tasks: picklable.
        bar: the bar that `count` moves.

    Raises:
        UserError: if dask.distributed is not installed, the cluster does not answer or has no worker, or lost one.
    """
    try:
        from distributed import Client, as_completed, wait
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UserError("--dask needs dask.distributed: pip install 'chexnet-fast[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--dask {address}: no scheduler answers ({error}); start one, or correct the address"
        ) from error
    with client:
        num_threads = sum(client.nthreads().values())
        if not num_threads:
            raise UserError(f"--dask {address}: the cluster has no worker; start dask workers, and run again")
        remaining = iter(tasks)
        sent = [
            client.submit(_counted, function, task, pure=False)
            for task in islice(remaining, TASKS_PER_THREAD * num_threads)
        ]
        ended = as_completed(sent)
        try:
            for future in ended:
                result, num_units = future.result()
                bar.update(num_units)
                for task in islice(remaining, 1):
                    ended.add(client.submit(_counted, function, task, pure=False))
                yield result
        except KilledWorker as error:
            raise UserError(f"--dask {address}: a worker was killed, perhaps for want of memory; run again") from error
        finally:
            wait(list(ended.futures))


def _counted(function: Callable[[Task], Result], task: Task) -> tuple[Result, int]:
    """Call the function; return its result and what it counted."""
    counts: list[int] = []
    counter.set(counts.append)
    return function(task), sum(counts)
