"""Pack a data set: label table, split and image files become a folder of shards with a manifest.

The work is cut into shards beforehand (shards/plan.py), and one worker writes one shard (shards/pack_shard.py). Until
the manifest is written, `OUT/packing/` holds the plan's digest and a receipt per finished shard: what a killed run
finished is kept by the next one if its plan is the same.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from shards.codec import BadImageError, decode_image
from shards.errors import BadInputError, UserError
from shards.files import TEMPORARY, whole_file
from shards.manifest import CODECS, Manifest, read_manifest, sha256_of, write_manifest
from shards.pack_shard import RECEIPTS, Receipt, Reject, ShardTask, check_rejects, pack_shard, read_receipt
from shards.plan import plan_shards
from shards.study import check_folds, fold_counts, read_study
from shards.table import REJECTED, write_table
from shards.workers import run_tasks

REJECTS = "rejects.csv"


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
    num_workers: int | None = None,
    max_rejects: int = 0,
    allow_unlabelled: bool = False,
    allow_empty_folds: bool = False,
    progress: bool = True,
) -> Manifest:
    """Pack the images that are found and labelled into the folder `out`.

    The same input and settings give the same bytes, whatever the number of workers and however often the packing was
    killed and run again; run on a finished folder, it changes nothing. Bad input leaves `out` as it was. An
    interruption or a full disk leaves the shards that are finished, and the same call goes on.

    Args:
        out: the shard folder: missing, empty, or an unfinished or finished packing of the same.
        dataset: a key of `shards.study.DATASETS`.
        images: folders with the image files, at any depth.
        labels: the label table.
        split: see `shards.splits.assign_folds`.
        size: the side of the packed images in pixels, or None to keep the images' own; raw then needs square images
            of one size.
        codec: raw, png or jpeg.
        quality: of JPEG, 1 to 95.
        seed: fixes the order of the training images, and what the split draws.
        num_workers: processes; None for one a core.
        max_rejects: go on with up to this many bad images, listed in rejects.csv.
        allow_unlabelled: leave out images that have no labels.
        allow_empty_folds: pack although train, val or test holds no image.
        progress: show a progress bar.

    Raises:
        UserError: if a setting or the input is bad, `out` holds something else, or the disk is full.
    """
    _check_settings(codec, size, quality)
    study = read_study(dataset, images, labels, split, seed, allow_unlabelled, allow_empty_folds)
    same_size = codec == "raw" and size is None
    draft = Manifest(
        dataset=dataset,
        findings=study.findings,
        codec=codec,
        quality=quality if codec == "jpeg" else None,
        size=_common_size(study.table) if same_size else size,
        table="table.csv",
        table_sha256="",
        labels=study.labels,
        split=study.split,
        images=study.images,
        counts={},
        num_rejected=0,
        seed=seed,
        plan_sha256="",
        shards=(),
    )
    draft = dataclasses.replace(draft, plan_sha256=_plan_digest(draft, study.table))
    if (out / "manifest.json").exists():
        return _finished(out, draft)
    tasks = [
        ShardTask(out, plan, codec, draft.size, draft.quality, same_size, max_rejects)
        for plan in plan_shards(study.table, study.findings, seed)
    ]
    existed = out.exists()
    resumed = _begin(out, draft.plan_sha256)
    try:
        receipts = _write_shards(tasks, num_workers, progress)
        return _finish(draft, study.table, receipts, out, allow_empty_folds)
    except BadInputError:
        if not resumed:
            _remove(out, existed)
        raise


def _check_settings(codec: str, size: int | None, quality: int) -> None:
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}: give --codec one of {', '.join(CODECS)}")
    if size is not None and size < 1:
        raise UserError(f"--size {size}: give at least 1 pixel, or original")
    if not 1 <= quality <= 95:
        raise UserError(f"--quality {quality}: give 1 to 95")


def _common_size(table: pd.DataFrame) -> int:
    """Return the width of the first good image; the workers check that the others are square and of this size."""
    for path in table["path"]:
        try:
            return decode_image(Path(path).read_bytes()).width
        except (BadImageError, OSError):
            continue  # the worker that meets it rejects it
    raise UserError(f"{table['path'].iloc[0]}: this image and all others cannot be decoded; give another --images")


def _plan_digest(draft: Manifest, table: pd.DataFrame) -> str:
    """Return the sha256 of all that decides the shards' bytes but the images' content."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(draft)).encode())
    digest.update(table.to_csv(index=False).encode())
    return digest.hexdigest()


def _finished(out: Path, draft: Manifest) -> Manifest:
    manifest = read_manifest(out)
    if manifest.plan_sha256 != draft.plan_sha256:
        raise UserError(f"{out}: holds shards of other input or settings; delete it, or choose another folder")
    shutil.rmtree(out / RECEIPTS, ignore_errors=True)
    return manifest


def _begin(out: Path, plan_sha256: str) -> bool:
    """Make the folder, or clean up after a killed run; return whether there was one."""
    plan = out / RECEIPTS / "plan.sha256"
    if plan.exists():
        if plan.read_text(encoding="ascii") != plan_sha256:
            raise UserError(
                f"{out}: holds an unfinished packing of other input or settings; delete it, or choose another folder"
            )
        for folder in (out, plan.parent):
            for left_over in folder.glob(f"{TEMPORARY}*"):
                left_over.unlink()
        return True
    if out.exists() and any(path.name != RECEIPTS for path in out.iterdir()):
        raise UserError(f"{out}: holds other files; choose an empty folder, or a new one")
    try:
        plan.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; choose another folder") from error
    with whole_file(plan) as temporary:
        temporary.write_text(plan_sha256, encoding="ascii")
    return False


def _write_shards(tasks: Sequence[ShardTask], num_workers: int | None, progress: bool) -> list[Receipt]:
    """Write the shards that have no receipt yet; return all receipts, in the tasks' order."""
    known = (read_receipt(task.out, task.plan) for task in tasks)
    receipts = {receipt.name: receipt for receipt in known if receipt}
    missing = [task for task in tasks if task.plan.name not in receipts]
    num_images = sum(len(task.plan.samples) for task in tasks)
    num_missing = sum(len(task.plan.samples) for task in missing)
    bar = tqdm(total=num_images, initial=num_images - num_missing, unit="img", desc="pack", disable=not progress)
    check_rejects(_rejects(receipts.values()), tasks[0].max_rejects)
    with bar, closing(run_tasks(pack_shard, missing, num_workers, bar)) as results:
        for receipt in results:
            receipts[receipt.name] = receipt
            check_rejects(_rejects(receipts.values()), tasks[0].max_rejects)
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
    shutil.rmtree(out / RECEIPTS)
    return manifest


def _rejects(receipts: Iterable[Receipt]) -> list[Reject]:
    """Return all rejected images, by row."""
    return sorted((reject for receipt in receipts for reject in receipt.rejects), key=lambda reject: reject.row)


def _remove(out: Path, existed: bool) -> None:
    """Take back what this run wrote; a folder that was there before stays, empty."""
    shutil.rmtree(out)
    if existed:
        out.mkdir()
