"""Rates are of what came after the warm-up, round by round in turn."""

from collections.abc import Iterator

import pytest

from bench import measure


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    return now


def test_a_rate_leaves_out_the_warm_up(clock):
    def stream(index: int) -> Iterator[int]:
        for batch in range(1000):
            clock[0] += 100.0 if batch < 3 else 0.5
            yield 10

    rates = measure.measure_rates({"a": stream}, num_rounds=2, seconds=4.0, num_warmup=3)
    assert rates["a"] == measure.Rate(20.0, 20.0, 20.0)


def test_streams_take_turns_and_end_before_the_next_begins(clock):
    events = []

    def stream_of(name: str) -> measure.Stream:
        def stream(index: int) -> Iterator[int]:
            events.append(f"{name}{index} begins")
            try:
                while True:
                    clock[0] += 1.0
                    yield 1
            finally:
                events.append(f"{name}{index} ends")

        return stream

    measure.measure_rates({"a": stream_of("a"), "b": stream_of("b")}, num_rounds=2, seconds=2.0)
    turns = ("a0", "b0", "a1", "b1")
    assert events == [f"{turn} {what}" for turn in turns for what in ("begins", "ends")]


def test_the_interval_of_a_median_holds_it_and_stays_within_the_rates():
    rate = measure.summarise([100.0, 110.0, 90.0, 105.0, 95.0])
    assert rate.median == 100.0
    assert 90.0 <= rate.low < 100.0 < rate.high <= 110.0
