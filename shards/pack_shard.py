"""The task of one packing worker: write one shard, and a receipt that says it is finished."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.codec import GROUP, BadImageError
from shards.encoding import Encoding, packed_bytes, read_image
from shards.files import whole_file
from shards.findings import FOLDS
from shards.manifest import EXTENSIONS, Shard, sha256_of
from shards.plan import Sample, ShardPlan
from shards.rejects import Reject, check_rejects
from shards.shard_file import ShardWriter, sample_members
from shards.spool import Spooled
from shards.unfinished import RECEIPTS
from shards.workers import count


@dataclass(frozen=True)
class Receipt:
    """What came of a shard's plan, by its name: the shard, or None where every image was rejected; and the rejects."""

    name: str
    shard: Shard | None
    rejects: tuple[Reject, ...]


@dataclass(frozen=True)
class ShardTask:
    """A shard to write into the folder `out`.

    `spooled` tells for the paths of images from archives where they lie, packed. More than `max_rejects` bad images
    end the task.
    """

    out: Path
    plan: ShardPlan
    encoding: Encoding
    spooled: Mapping[str, Spooled]
    max_rejects: int


def pack_shard(task: ShardTask) -> Receipt:
    """Write a shard's tar, its index, then its receipt, each whole or not at all.

    Raises:
        BadInputError: if more than `max_rejects` of its images are bad, or one is not of the size that it must have.
        UserError: if the disk is full.
    """
    rejects = []
    tar = task.out / f"{task.plan.name}.tar"
    with whole_file(tar) as temporary, ShardWriter(temporary) as writer:
        for sample, image in _packed_samples(task):
            if isinstance(image, BadImageError):
                rejects.append(Reject(sample.row, sample.image_id, sample.path, str(image)))
                check_rejects({reject.path: reject.reason for reject in rejects}, task.max_rejects)
            else:
                record = _record(sample, task.plan.fold)
                members = sample_members(EXTENSIONS[task.encoding.codec], image, record, sample.row)
                writer.write(sample.key, members)
            count(1)
    shard = None
    if writer.num_samples:
        index = tar.with_suffix(".idx")
        with whole_file(index) as temporary:
            temporary.write_text(writer.index, encoding="ascii")
        shard = Shard(tar.name, task.plan.fold, writer.num_samples, writer.num_bytes, writer.sha256, sha256_of(index))
    else:
        tar.unlink()
    receipt = Receipt(task.plan.name, shard, tuple(rejects))
    with whole_file(_receipt_path(task.out, task.plan)) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(receipt)), encoding="utf-8")
    return receipt


def read_receipt(out: Path, plan: ShardPlan) -> Receipt | None:
    """Return the receipt of a shard that an earlier run finished, or None; the tar must lie there in full size."""
    path = _receipt_path(out, plan)
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    rejects = tuple(Reject(**reject) for reject in values["rejects"])
    if values["shard"] is None:
        return Receipt(plan.name, None, rejects)
    shard = Shard(**values["shard"])
    tar, index = out / shard.file, out / shard.index_file
    whole = tar.exists() and index.exists() and tar.stat().st_size == shard.num_bytes
    return Receipt(plan.name, shard, rejects) if whole else None


def forget_receipts(out: Path) -> None:
    """Remove the receipts of all shards, so that they are written anew."""
    for fold in FOLDS:
        for receipt in (out / RECEIPTS).glob(f"{fold}-*.json"):
            receipt.unlink()


def _packed_samples(task: ShardTask) -> Iterator[tuple[Sample, bytes | BadImageError]]:
    """Give each sample's packed image, or what is wrong with it."""
    num_together = 1 if task.spooled else GROUP  # images from archives are packed already
    for start in range(0, len(task.plan.samples), num_together):
        samples = task.plan.samples[start : start + num_together]
        yield from zip(samples, _packed_group(task, [sample.path for sample in samples]), strict=True)


def _packed_group(task: ShardTask, paths: Sequence[str]) -> Sequence[bytes | BadImageError]:
    """Return the packed images of a group; where one is bad, all are packed again one by one, to tell which."""
    try:
        if paths[0] in task.spooled:
            return [task.spooled[path].read(task.out / RECEIPTS) for path in paths]
        return packed_bytes([(path, read_image(path)) for path in paths], task.encoding)
    except BadImageError as error:
        if len(paths) == 1:
            return [error]
        return [image for path in paths for image in _packed_group(task, [path])]


def _record(sample: Sample, fold: str) -> dict[str, object]:
    return {
        "image_id": sample.image_id,
        "patient_id": sample.patient_id,
        "fold": fold,
        "findings": list(sample.findings),
    }


def _receipt_path(out: Path, plan: ShardPlan) -> Path:
    return out / RECEIPTS / f"{plan.name}.json"
