"""The codec report: exact bytes and differences."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.codecs import CODECS, SIZES, CodecRow, bench_codecs, format_codecs, read_codecs
from shards.errors import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (260, 300), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def test_raw_and_png_keep_the_references_pixels_and_jpeg_does_not(images: Path, tmp_path: Path) -> None:
    rows = {(row.codec, row.size): row for row in bench_codecs(images, tmp_path)}
    assert list(rows) == [(codec, size) for size in SIZES for codec, _ in CODECS]
    for (codec, size), row in rows.items():
        assert row.num_images == 2
        assert (row.largest_difference == 0) == (row.mean_difference == 0) == (codec != "jpeg")
        assert row.mean_difference <= row.largest_difference
        if codec == "raw":
            assert row.bytes_per_image == (260 * 300 if size is None else size * size)
    assert rows["jpeg", 224].bytes_per_image < rows["raw", 224].bytes_per_image
    assert read_codecs(tmp_path / "codecs.jsonl")[0] == list(rows.values())
    assert (tmp_path / "codecs.md").read_text() == format_codecs(list(rows.values()))


def test_the_table_reads_as_a_person_writes() -> None:
    rows = [
        CodecRow("jpeg", 95, 224, 200, 12_668.6, 0.6312, 9, 0.211, 0.32),
        CodecRow("raw", None, None, 200, 1_048_576.0, 0.0, 0, 0.1, 0.04),
    ]
    assert format_codecs(rows).splitlines()[2:] == [
        "| 224 | jpeg, quality 95 | 12,669 | 0.63, 9 | 0.21 | 0.32 |",
        "| original | raw | 1,048,576 | 0 | 0.10 | 0.04 |",
    ]


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match="bad.png: empty file; take it out"):
        bench_codecs(tmp_path, tmp_path / "out")
