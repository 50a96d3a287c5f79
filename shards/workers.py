"""Tasks over processes that share one progress bar, stop together, and never outlive the program."""

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import TypeVar

from tqdm import tqdm

from shards.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

REFRESH_SECONDS = 0.2
KEPT_BYTES = 1 << 26
"""Freed memory that a worker keeps, to decode the next images into: 64 MiB."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

counter: ContextVar[Callable[[int], None]] = ContextVar("counter")
"""What `count` calls inside a task: set by whoever runs it."""


class StoppedError(Exception):
    """End a worker's task because another one failed or the user stopped the program."""


def count(num_units: int) -> None:
    """Say, inside a task, that `num_units` more are done: moves the progress bar.

    Raises:
        StoppedError: if the task is no longer wanted.
    """
    counter.get()(num_units)


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], num_workers: int | None, bar: tqdm
) -> Generator[Result, None, None]:
    """Yield `function(task)` for each task, as they end.

    The first exception of a task is raised here; closing the iterator, or an exception, stops the other tasks at their
    next `count`. Workers end with this process, even if it is killed.

    Args:
        function: a module's function; it calls `count`.
        tasks: picklable.
        num_workers: processes; None for as many as this process may use cores.
        bar: the bar that `count` moves.

    Raises:
        UserError: if a worker was killed, as by the kernel when memory runs out.
    """
    done = multiprocessing.Value("q", 0)
    stop = multiprocessing.Event()
    start = bar.n
    executor = ProcessPoolExecutor(num_workers or num_cores(), initializer=_start, initargs=(done, stop))
    try:
        with garbage_kept_here():
            pending = {executor.submit(function, task) for task in tasks}
        while pending:
            ended, pending = wait(pending, REFRESH_SECONDS, FIRST_COMPLETED)
            bar.update(start + done.value - bar.n)
            for future in ended:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError("a worker process was killed, perhaps for want of memory; use fewer workers") from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def garbage_kept_here() -> Iterator[None]:
    """Keep this process's garbage out of the reach of processes forked meanwhile.

    A process that collects a DALI pipeline's forked copy crashes: the pipeline's threads are not there to be joined.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _start(done: "Synchronized[int]", stop: Event) -> None:
    def add(num_units: int) -> None:
        if stop.is_set():
            raise StoppedError
        with done.get_lock():
            done.value += num_units

    counter.set(add)
    _keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent stops the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Spare packing the page faults of memory that is given back and taken anew for each image: 4 % of its time."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
