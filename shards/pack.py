"""Pack a data set: label table, split and images become a folder of shards with a manifest.

Archives are first read into spools (shards/spool.py). The work is cut into shards beforehand (shards/plan.py), and one
worker writes one shard (shards/pack_shard.py). Until the manifest is written, `OUT/packing/` keeps what is finished
(shards/unfinished.py): the next run goes on where a killed one stopped, if it asks for the same.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pandas as pd

from shards.codec import BadImageError, decode_image
from shards.crew import Crew
from shards.datasets.registry import DATASETS
from shards.encoding import Encoding, read_image
from shards.errors import BadInputError, UserError
from shards.files import whole_file
from shards.manifest import CODECS, Manifest, sha256_of, write_manifest
from shards.pack_shard import Receipt, ShardTask, forget_receipts, pack_shard, read_receipt
from shards.plan import plan_shards
from shards.rejects import REJECTS, Reject, check_rejects
from shards.sources import Sources, find_sources
from shards.spool import Spooled, SpoolTask, read_images, read_spool, spool_archive
from shards.study import Labelled, check_folds, fold_counts, join_images, read_labelled
from shards.table import REJECTED, write_table
from shards.unfinished import RECEIPTS, begin, end, finished, give_up


def pack(
    out: Path,
    dataset: str,
    images: Sequence[Path],
    labels: Path,
    split: Sequence[str],
    size: int | None = 224,
    codec: str = "raw",
    quality: int = 95,
    seed: int = 0,
    views: str = "frontal",
    num_workers: int | None = None,
    dask: str | None = None,
    max_rejects: int = 0,
    allow_unlabelled: bool = False,
    allow_empty_folds: bool = False,
    progress: bool = True,
) -> Manifest:
    """Pack the images that are found and labelled into the folder `out`.

    The same input and settings give the same bytes, whatever the number of workers or machines and however often the
    packing was killed and run again; run on a finished folder, it changes nothing. Bad input leaves `out` as it was.
    An interruption or a full disk leaves what is finished, and the same call goes on.

    Args:
        out: the shard folder: missing, empty, or an unfinished or finished packing of the same.
        dataset: a key of `shards.datasets.registry.DATASETS`, or auto: told by the label table.
        images: folders with the image files or their archives, at any depth, and archives: see `shards.sources`.
        labels: the label table, or the folder of CheXpert's.
        split: see `shards.splits.assign_folds`.
        size: the side of the packed images in pixels, or None to keep the images' own; raw then needs square images
            of one size.
        codec: raw, png or jpeg.
        quality: of JPEG, 1 to 95.
        seed: fixes the order of the training images, and what the split draws.
        views: frontal, or both: with CheXpert's lateral views.
        num_workers: processes; None for one a core.
        dask: the address of a dask.distributed scheduler, to work on its cluster instead; it must see `out` and
            `images` under the same paths.
        max_rejects: go on with up to this many bad images, listed in rejects.csv.
        allow_unlabelled: leave out images that have no labels.
        allow_empty_folds: pack although train, val or test holds no image.
        progress: show a progress bar.

    Raises:
        UserError: if a setting or the input is bad, `out` holds something else, or the disk is full.
    """
    _check_settings(codec, size, quality)
    labelled = read_labelled(dataset, labels, split, seed, views)
    sources = find_sources(images, DATASETS[labelled.dataset].image_id)
    encoding = _encoding(codec, size, quality, sources)
    draft = Manifest(
        dataset=labelled.dataset,
        findings=labelled.findings,
        codec=codec,
        quality=encoding.quality,
        size=encoding.size,
        table="table.csv",
        table_sha256="",
        labels=labelled.labels,
        split=labelled.split,
        images={"folders": [str(path.resolve()) for path in images], "views": views},
        counts={},
        num_rejected=0,
        seed=seed,
        plan_sha256="",
        shards=(),
    )
    draft = dataclasses.replace(draft, plan_sha256=_plan_digest(draft, labelled, sources))
    if manifest := finished(out, draft):
        return manifest
    crew = Crew(num_workers, dask, progress)
    existed = out.exists()
    resumed = begin(out, draft.plan_sha256)
    try:
        spooled = _read_archives(labelled, sources, out, encoding, max_rejects, crew)
        table, num_unlabelled = join_images(labelled, _found(sources, spooled), allow_unlabelled)
        check_folds(table, allow_empty_folds)
        places = {image.path: image for image in spooled}
        tasks = [
            ShardTask(
                out.absolute(),
                plan,
                encoding,
                {sample.path: places[sample.path] for sample in plan.samples if sample.path in places},
                max_rejects,
            )
            for plan in plan_shards(table, labelled.findings, seed)
        ]
        receipts = _write_shards(tasks, max_rejects, crew)
        counts = {
            "num_found": len(table),
            "num_labelled": len(labelled.frame),
            "num_unlabelled": num_unlabelled,
        }
        draft = dataclasses.replace(draft, images={**draft.images, **counts})
        return _finish(draft, table, receipts, out, allow_empty_folds)
    except BadInputError:
        if not resumed:
            give_up(out, existed)
        raise


def _check_settings(codec: str, size: int | None, quality: int) -> None:
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}: give --codec one of {', '.join(CODECS)}")
    if size is not None and size < 1:
        raise UserError(f"--size {size}: give at least 1 pixel, or original")
    if not 1 <= quality <= 95:
        raise UserError(f"--quality {quality}: give 1 to 95")


def _encoding(codec: str, size: int | None, quality: int, sources: Sources) -> Encoding:
    same_size = codec == "raw" and size is None
    return Encoding(codec, _first_size(sources) if same_size else size, quality if codec == "jpeg" else None, same_size)


def _first_size(sources: Sources) -> int:
    """Return the width of the first good image; the workers check that the others are square and of this size."""
    for size in _sizes(sources):
        return size
    raise UserError("none of the images can be decoded; give another --images")


def _sizes(sources: Sources) -> Iterator[int]:
    """Give the good images' widths; the workers that meet the bad ones reject them."""
    for path in sources.files.values():
        with suppress(BadImageError):
            yield decode_image(read_image(path)).width
    for archive in sources.archives:
        for _, data in read_images(archive):
            with suppress(BadImageError):
                yield decode_image(data).width


def _plan_digest(draft: Manifest, labelled: Labelled, sources: Sources) -> str:
    """Return the sha256 of all that decides the shards' bytes but the images' and archives' content."""
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(draft), sources.archives]).encode())
    frame = labelled.frame
    digest.update(frame.assign(path=frame["image_id"].map(sources.files)).to_csv(index=False).encode())
    return digest.hexdigest()


def _read_archives(
    labelled: Labelled, sources: Sources, out: Path, encoding: Encoding, max_rejects: int, crew: Crew
) -> list[Spooled]:
    """Write the spools that are not finished yet; return the images of all archives."""
    wanted = frozenset(labelled.frame["image_id"]) - set(sources.files)
    image_id = DATASETS[labelled.dataset].image_id
    tasks = [
        SpoolTask(
            (out / RECEIPTS).absolute(), f"spool-{number:03d}.bin", archive, wanted, image_id, encoding, max_rejects
        )
        for number, archive in enumerate(sources.archives)
    ]
    known = {task.name: read_spool(task) for task in tasks}
    missing = [task for task in tasks if known[task.name] is None]
    if missing:
        forget_receipts(out)  # of shards that were written from an archive that is another now
        num_done = sum(len(images) for images in known.values() if images is not None)
        with (
            crew.bar("read archives", len(wanted), min(num_done, len(wanted))) as bar,
            closing(crew.run(spool_archive, missing, bar)) as results,
        ):
            for _ in results:
                continue
    spooled: list[Spooled] = []
    for task in tasks:
        images = read_spool(task)
        if images is None:
            raise UserError(f"{task.archive}: changed while it was read; run again")
        spooled += images
    return spooled


def _found(sources: Sources, spooled: Iterable[Spooled]) -> Mapping[str, str]:
    """Return each found image's id to its path."""
    found = dict(sources.files)
    for image in spooled:
        if found.setdefault(image.image_id, image.path) != image.path:
            raise BadInputError(
                f"{image.path} and {found[image.image_id]} are one image: give --images one of their folders"
            )
    return found


def _write_shards(tasks: Sequence[ShardTask], max_rejects: int, crew: Crew) -> list[Receipt]:
    """Write the shards that have no receipt yet; return all receipts, in the tasks' order."""
    known = (read_receipt(task.out, task.plan) for task in tasks)
    receipts = {receipt.name: receipt for receipt in known if receipt}
    missing = [task for task in tasks if task.plan.name not in receipts]
    missing.sort(key=lambda task: len(task.plan.samples), reverse=True)  # so that the processes end together
    num_images = sum(len(task.plan.samples) for task in tasks)
    num_missing = sum(len(task.plan.samples) for task in missing)
    check_rejects(_reasons(receipts.values()), max_rejects)
    if missing:
        with (
            crew.bar("pack", num_images, num_images - num_missing) as bar,
            closing(crew.run(pack_shard, missing, bar)) as results,
        ):
            for receipt in results:
                receipts[receipt.name] = receipt
                check_rejects(_reasons(receipts.values()), max_rejects)
    return [receipts[task.plan.name] for task in tasks]


def _finish(
    draft: Manifest, table: pd.DataFrame, receipts: Sequence[Receipt], out: Path, allow_empty_folds: bool
) -> Manifest:
    """Write the table, the list of rejects and, last, the manifest."""
    rejects = _rejects(receipts)
    table = table.assign(fold=table["fold"].mask(table["row"].isin([reject.row for reject in rejects]), REJECTED))
    check_folds(table, allow_empty_folds)
    write_table(table, out / draft.table)
    if rejects:
        with whole_file(out / REJECTS) as temporary:
            columns = ["image_id", "path", "reason"]
            pd.DataFrame(rejects)[columns].to_csv(temporary, index=False, lineterminator="\n")
    manifest = dataclasses.replace(
        draft,
        table_sha256=sha256_of(out / draft.table),
        counts=fold_counts(table),
        num_rejected=len(rejects),
        shards=tuple(receipt.shard for receipt in receipts if receipt.shard),
    )
    write_manifest(manifest, out)
    end(out)
    return manifest


def _rejects(receipts: Iterable[Receipt]) -> list[Reject]:
    """Return all rejected images, by row."""
    return sorted((reject for receipt in receipts for reject in receipt.rejects), key=lambda reject: reject.row)


def _reasons(receipts: Iterable[Receipt]) -> dict[str, str]:
    """Return each rejected image's path to the reason."""
    return {reject.path: reject.reason for reject in _rejects(receipts)}
