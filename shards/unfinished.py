"""What a packing that is not finished keeps in `OUT/packing/`, so that the next run goes on: receipts and spools."""

import shutil
from pathlib import Path

from shards.errors import UserError
from shards.files import remove_left_overs, whole_file
from shards.manifest import Manifest, read_manifest

RECEIPTS = "packing"
"""The folder inside the shard folder, until the manifest is written."""
PLAN = "plan.sha256"


def finished(out: Path, draft: Manifest) -> Manifest | None:
    """Return the manifest if the packing that `draft` asks for is finished, None if it is not.

    Raises:
        UserError: if the folder holds another packing.
    """
    if not (out / "manifest.json").exists():
        return None
    manifest = read_manifest(out)
    if manifest.plan_sha256 != draft.plan_sha256:
        if manifest.labels != draft.labels and _asked_for(manifest) == _asked_for(draft):
            raise UserError(
                f"{out}: was packed with other labels ({manifest.labels['file']}); give it the new ones by "
                f"chexnet-fast relabel {out} --labels FILE, or choose another folder"
            )
        raise UserError(f"{out}: holds shards of other input or settings; delete it, or choose another folder")
    end(out)
    return manifest


def _asked_for(manifest: Manifest) -> tuple[object, ...]:
    """Return the input and settings of a packing but for its labels."""
    images = manifest.images["folders"], manifest.images["views"]
    return manifest.dataset, manifest.codec, manifest.quality, manifest.size, manifest.seed, manifest.split, images


def begin(out: Path, plan_sha256: str) -> bool:
    """Make the folder, or clean up after a killed run; return whether there was one.

    Raises:
        UserError: if the folder cannot be made, or holds something else.
    """
    plan = out / RECEIPTS / PLAN
    if plan.exists():
        if plan.read_text(encoding="ascii") != plan_sha256:
            raise UserError(
                f"{out}: holds an unfinished packing of other input or settings; delete it, or choose another folder"
            )
        for folder in (out, plan.parent):
            remove_left_overs(folder)
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


def end(out: Path) -> None:
    """Remove what a finished packing no longer needs."""
    shutil.rmtree(out / RECEIPTS, ignore_errors=True)


def give_up(out: Path, existed: bool) -> None:
    """Take back what a run wrote; a folder that was there before stays, empty."""
    shutil.rmtree(out)
    if existed:
        out.mkdir()
