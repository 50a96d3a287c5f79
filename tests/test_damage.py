"""Whatever bytes stand in a shard folder, reading it ends well or in one line."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_nih import pack_tiny, write_nih

from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.shard_file import read_index
from shards.table import read_table
from shards.verify import verify


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    images, labels = write_nih(folder / "nih", num_patients=4)
    pack_tiny(folder / "shards", images, labels, size=8)
    return folder / "shards"


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw a few replacements of stretches of bytes, anywhere, by a few others."""
    edits = draw(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=30)), min_size=1, max_size=4)
    )

    def mutate(data: bytes) -> bytes:
        for place, length, replacement in edits:
            begin = int(place * len(data))
            data = data[:begin] + replacement + data[begin + length :]
        return data

    return mutate


def read_all(folder: Path) -> None:
    """Read a shard folder in every way, past what the first error would hide."""
    with contextlib.suppress(UserError):
        read_table(folder / "table.csv", NIH_FINDINGS)
    with contextlib.suppress(UserError):
        read_index(folder / "train-00000.idx")
    with contextlib.suppress(UserError):
        manifest = read_manifest(folder)
        for fold in manifest.counts:
            with contextlib.suppress(UserError):
                open_fold(folder, manifest, fold)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutate=mutations())
@pytest.mark.parametrize("file", ["manifest.json", "table.csv", "train-00000.tar", "train-00000.idx"])
def test_changed_bytes_never_end_in_a_traceback(
    shards: Path, tmp_path: Path, file: str, mutate: Callable[[bytes], bytes]
) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy", dirs_exist_ok=True))
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(mutate(whole))
    read_all(copy)
    if mutate(whole) == whole:
        verify(copy, num_workers=1, progress=False)
    else:
        with pytest.raises(UserError, match=file.replace("train-00000.tar", "train-00000")):
            verify(copy, num_workers=1, progress=False)
