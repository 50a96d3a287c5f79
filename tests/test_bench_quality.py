"""The quality benchmark runs the project's own commands, and its table holds means over seeds."""

import pandas as pd
import pytest

from bench import quality
from bench.jpeg import JpegRow, bench_jpeg, format_jpeg_rows
from bench.measure import Rate
from bench.quality import QualityRow, bench_quality, format_quality, read_quality
from shards.datasets.phantom import write_phantoms
from shards.errors import UserError


def test_every_variant_is_trained_and_evaluated_with_every_seed(tmp_path, monkeypatch):
    commands = []

    def pretend(*arguments):
        words = [str(argument) for argument in arguments]
        commands.append(words)
        if words[0] == "phantom":
            write_phantoms(tmp_path / words[1], 60, size=32, progress=False)
        if words[0] == "train":
            (tmp_path / words[2]).mkdir()
            pd.DataFrame({"epoch": [1, 2]}).to_csv(tmp_path / words[2] / "log_train.csv")
        if words[0] == "evaluate":
            (tmp_path / words[1] / "evaluation").mkdir()
            pd.DataFrame({"auc": [0.7, 0.9]}).to_csv(tmp_path / words[1] / "evaluation" / "aucs.csv")

    monkeypatch.setattr(quality, "_command", pretend)
    epochs = {"reference": 3, "fast": 5}
    rows = bench_quality(tmp_path, num_images=50, num_seeds=2, epochs=epochs, device="cuda", num_jobs=2)
    assert read_quality(tmp_path / "quality.jsonl")[0] == rows
    known, unseen = ((tmp_path / name).read_text().split() for name in ("train_val_list.txt", "test_list.txt"))
    assert len(known) >= len(pd.read_csv(tmp_path / "first.csv")) == 50
    assert len(known) + len(unseen) == 60 and unseen
    assert not {name[:8] for name in known} & {name[:8] for name in unseen}
    assert [(row.variant, row.seed) for row in rows] == [(name, seed) for seed in (0, 1) for name in quality.VARIANTS]
    assert [row.num_epochs for row in rows] == [2] * len(rows)
    assert [row.mean_auc for row in rows] == pytest.approx([0.8] * len(rows))
    trained = [words for words in commands if words[0] == "train"]
    assert {(words[words.index("--recipe") + 1], words[words.index("--epochs") + 1]) for words in trained} == {
        ("reference", "3"),
        ("fast", "5"),
    }


def test_an_unknown_variant_is_named_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match=r"--variants 'slow': give some of: reference, PIL, float32; reference, DALI"):
        bench_quality(
            tmp_path,
            num_images=50,
            num_seeds=1,
            epochs={},
            device="cpu",
            num_jobs=1,
            variants=("fast, DALI, float32", "slow"),
        )
    assert not list(tmp_path.iterdir())


def test_a_failing_command_is_named(tmp_path):
    with pytest.raises(UserError, match=r"chexnet_fast verify .*nothing ended with status 2"):
        quality._command("verify", tmp_path / "nothing")


def test_the_table_has_means_and_spreads_over_seeds():
    rows = [QualityRow("fast, DALI, float32", seed, 5, auc, 10.0) for seed, auc in enumerate((0.8, 0.9))]
    assert format_quality(rows).splitlines()[-1] == "| fast, DALI, float32 | 2 | 5 | 0.8500 (0.8000 - 0.9000) | 10 |"


def test_jpeg_rates_are_a_table_of_threads_and_engines():
    rows = [JpegRow(threads, load, Rate(1000.0 * threads + load, 0, 0)) for threads in (2, 4) for load in (0.0, 1.0)]
    assert format_jpeg_rows(rows).splitlines() == [
        "| threads | engines 0% | engines 100% |",
        "| --: | --: | --: |",
        "| 2 | 2,000 | 2,001 |",
        "| 4 | 4,000 | 4,001 |",
    ]


def test_the_jpeg_benchmark_names_shards_of_another_codec(tmp_path, monkeypatch):
    from tiny_nih import pack_tiny, write_nih

    images, labels = write_nih(tmp_path)
    pack_tiny(tmp_path / "raw", images, labels, size=24)
    with pytest.raises(UserError, match="packed as raw; give shards packed with --codec jpeg"):
        bench_jpeg(tmp_path / "raw", tmp_path / "out", 24, (2,), 0.1)
