import io
import os
import signal
import time
from contextlib import closing

import pytest
from tqdm import tqdm

from shards.errors import UserError
from shards.workers import count, run_tasks


def square(number: int) -> int:
    count(number)
    return number * number


def fail_or_go_on(number: int) -> None:
    if number == 0:
        raise ValueError("task 0")
    for _ in range(10_000):
        count(1)
        time.sleep(0.01)


def be_killed(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_result_comes_and_the_bar_counts() -> None:
    bar = tqdm(total=15, initial=5, file=io.StringIO())
    assert sorted(run_tasks(square, range(5), 2, bar)) == [0, 1, 4, 9, 16]
    assert bar.n == 15


def test_a_failed_task_stops_the_others_at_their_next_count() -> None:
    start = time.perf_counter()
    with (
        pytest.raises(ValueError, match="task 0"),
        closing(run_tasks(fail_or_go_on, range(2), 2, tqdm(disable=True))) as results,
    ):
        list(results)
    assert time.perf_counter() - start < 10


def test_a_killed_worker_is_a_user_error() -> None:
    with pytest.raises(UserError, match="fewer workers"):
        list(run_tasks(be_killed, [1], 1, tqdm(disable=True)))
