"""Other libraries' loaders, each in the best way that its own documentation shows, on the same images.

A peer is a module with two functions: `prepare(fold, folder)` writes the library's own format once, where it has one,
and `stream(source)` yields batches without end, (B, C, H, W) tensors on the CPU. Each shuffles, flips with a
probability of a half, resizes to the output's size and normalises as our loaders do; in which order the images come,
and whether each comes once in an epoch, is the peer's own affair. RGB batches may have any memory format.
"""

import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.cases import Case, Setting, arrive
from bench.measure import Stream
from bench.peers.source import Decoder, Source, with_pillow, with_torchvision
from bench.rows import Row
from pipelines.spec import InputSpec
from shards.fold import Fold

ENCODED = ("png", "jpeg")
ALL_CODECS = ("raw", *ENCODED)


@dataclass(frozen=True)
class Peer:
    """A peer: its name in the report, its module here, the distribution it needs, its decoder, the codecs it can read.

    LitData and MosaicML Streaming store bytes, which torchvision decodes here; SPDL decodes by itself, with FFmpeg.
    """

    name: str
    module: str
    distribution: str
    decoder: Decoder
    codecs: tuple[str, ...]


PEERS = (
    Peer("torchvision.io", "torchvision_files", "torchvision", with_torchvision, ENCODED),
    Peer("webdataset + PIL", "webdataset_shards", "webdataset", with_pillow, ALL_CODECS),
    Peer("webdataset + torchvision.io", "webdataset_shards", "webdataset", with_torchvision, ALL_CODECS),
    Peer("SPDL", "spdl_files", "spdl", with_torchvision, ENCODED),
    Peer("LitData", "litdata_chunks", "litdata", with_torchvision, ALL_CODECS),
    Peer("MosaicML Streaming", "mosaicml_streaming", "mosaicml-streaming", with_torchvision, ALL_CODECS),
)
FFCV = Row("peer", "FFCV", note="not measured: no wheel, needs OpenCV to build")
"""FFCV 1.0.2 of 2023, its last release, builds from source against OpenCV 4 and libjpeg-turbo."""


def load_peers() -> tuple[dict[Peer, ModuleType], list[Row]]:
    """Import the peers.

    Returns:
        The modules of those that are installed, and a row for each other, which says why it is not measured.
    """
    modules, absent = {}, []
    for peer in PEERS:
        try:
            modules[peer] = importlib.import_module(f"bench.peers.{peer.module}")
        except ImportError as error:
            absent.append(Row("peer", peer.name, note=f"not installed ({error})"))
    return modules, [*absent, FFCV]


def peer_cases(modules: dict[Peer, ModuleType], fold: Fold, setting: Setting, folder: Path) -> list[Case]:
    """Return what to measure of the peers that can read the fold's codec, with their formats written to a folder."""
    manifest = fold.manifest
    cases = []
    for peer, module in modules.items():
        if manifest.codec not in peer.codecs:
            continue
        prepared = folder / peer.module / f"{manifest.codec}-{manifest.size or 'original'}"
        if not prepared.exists():
            prepared.mkdir(parents=True)
            module.prepare(fold, prepared)
        for spec in setting.specs():
            stream = _stream(peer, module, fold, prepared, spec, setting)
            cases.append(Case("peer", peer.name, manifest.codec, manifest.size, spec.channels, spec.dtype, stream))
    return cases


def peer_versions(modules: dict[Peer, ModuleType]) -> dict[str, str]:
    """Return the versions of the peers' distributions."""
    return {peer.distribution: importlib.metadata.version(peer.distribution) for peer in modules}


def _stream(peer: Peer, module: ModuleType, fold: Fold, folder: Path, spec: InputSpec, setting: Setting) -> Stream:
    to_image = peer.decoder(fold.manifest, spec)

    def stream(index: int) -> Iterator[int]:
        source = Source(fold, folder, spec, to_image, setting.batch_size, setting.num_workers, seed=index)
        for number, images in enumerate(module.stream(source)):
            yield arrive(images, number, setting.device)

    return stream
