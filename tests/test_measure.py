import itertools

import pytest

from bench.measure import Rate, measure_rates, summarise


def test_the_summary_is_the_median_with_an_interval_inside_the_range():
    rate = summarise([100.0, 90.0, 110.0, 105.0, 95.0])
    assert rate.median == 100
    assert 90 <= rate.low < 100 < rate.high <= 110
    assert summarise([7.0, 7.0, 7.0]) == Rate(7, 7, 7)


def test_each_round_starts_every_stream_anew_in_turn_and_skips_the_warm_up(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr("bench.measure.time.perf_counter", lambda: next(seconds))
    started = []

    def stream(name, size):
        def start(index):
            started.append((index, name))
            yield from itertools.repeat(1000, 3)  # the warm-up's batches would raise the rate
            yield from itertools.repeat(size)

        return start

    rates = measure_rates({"slow": stream("slow", 2), "fast": stream("fast", 6)}, 2, seconds=5.0, num_warmup=3)
    assert started == [(0, "slow"), (0, "fast"), (1, "slow"), (1, "fast")]
    assert rates["fast"].median == pytest.approx(3 * rates["slow"].median)
    assert rates["slow"].median == pytest.approx(2 * 4 / 5)
