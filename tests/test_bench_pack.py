"""The packing report: packing beside its limits."""

from pathlib import Path

import pytest
from tiny_nih import write_nih

from bench.measure import Rate
from bench.pack import PackRow, bench_pack, format_pack, read_pack


def test_packing_and_its_limits_are_measured_and_nothing_else_is_left(tmp_path: Path) -> None:
    images, _ = write_nih(tmp_path)
    out = tmp_path / "out"
    rows = bench_pack([images], out, num_workers=1)
    assert [row.work for row in rows] == ["pack", "decode only", "decode only, with Pillow", "write only"]
    assert {(row.num_images, row.num_workers) for row in rows} == {(len(list(images.iterdir())), 1)}
    for row in rows:
        assert 0 < row.rate.low <= row.rate.median <= row.rate.high
        assert row.share == pytest.approx(rows[0].rate.median / row.rate.median)
    assert read_pack(out / "pack.jsonl")[0] == rows
    assert sorted(file.name for file in out.iterdir()) == ["pack.jsonl", "pack.md"]
    assert (out / "pack.md").read_text() == format_pack(rows)


def test_the_table_reads_as_a_person_writes() -> None:
    rows = [PackRow("decode only", 3_000, 2, Rate(1195.4, 1190.2, 1199.9), 0.824)]
    assert format_pack(rows).splitlines()[2:] == ["| decode only | 1,195 (1,190 - 1,200) | 0.82 |"]
