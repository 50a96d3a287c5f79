"""The commands that make and look at data. Heavy imports stay inside, so that --help answers at once."""

import tempfile
from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def phantom(
    out: Positional[Path],
    images: int,
    size: int = 1024,
    seed: int = 0,
    enrich: float = 1.0,
    layout: Literal["nih", "kaggle", "archives", "nih-224", "chexpert", "chexphoto"] = "nih",
) -> None:
    """Write a synthetic data set in the file formats of NIH, or of another publisher.

    Example: chexnet-fast phantom build/phantom --images 100

    Args:
        out: the folder to write.
        images: how many images.
        size: side of the square images in pixels.
        seed: fixes every byte.
        enrich: how many times as common as at NIH the findings are.
        layout: folders and tables as published by NIH (as PNG files, as twelve archives, or resized to 224 pixels), by
            Kaggle, or as CheXpert or CheXphoto.
    """
    from shards.datasets.phantom import write_phantoms
    from shards.datasets.phantom_layouts import write_layout

    if layout == "nih":
        write_phantoms(out, images, size, seed, enrich)
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_phantoms(Path(scratch), images, size, seed, enrich)
        write_layout(Path(scratch), out, layout)


def download(out: Positional[Path], parallel: int = 3) -> None:
    """Download NIH's twelve archives (45 GB), checked by MD5; one that was cut short goes on where it stopped.

    Example: chexnet-fast download build/archives

    Args:
        out: the folder for the archives.
        parallel: how many to download at a time.
    """
    from shards.download import download as download_archives

    download_archives(out, num_parallel=parallel)


def pack(
    out: Positional[Path],
    images: tuple[Path, ...],
    labels: Path,
    split: tuple[str, ...] = (),
    dataset: Literal["auto", "nih", "chexpert", "chexphoto"] = "auto",
    size: int | Literal["original"] = 224,
    codec: Literal["raw", "png", "jpeg"] = "raw",
    quality: int = 95,
    seed: int = 0,
    views: Literal["frontal", "both"] = "frontal",
    workers: int | None = None,
    dask: str | None = None,
    max_rejects: int = 0,
    allow_unlabelled: bool = False,
    allow_empty_folds: bool = False,
) -> None:
    """Pack a data set into WebDataset shards, once.

    Example: chexnet-fast pack build/nih --images nih/images --labels nih/Data_Entry_2017_v2020.csv --split patient

    Args:
        out: the shard folder to write; packing that was cut short goes on there.
        images: folders of images or of archives (images_001.tar.gz), or archives.
        labels: the label table, or the folder of CheXpert's.
        split: a file that gives each image's fold, NIH's train_val_list.txt and test_list.txt, or the word patient
            to draw folds by patient; if not given, the label table's own fold column.
        dataset: the data set; auto tells it by the label table.
        size: side of the packed images in pixels, or original.
        codec: raw pixels, png (the same pixels, compressed), or jpeg.
        quality: JPEG quality, 1 to 95.
        seed: fixes the split and the order of the training images.
        views: frontal views only, or CheXpert's lateral ones too.
        workers: processes; all cores if not given.
        dask: address of a dask.distributed scheduler, as tcp://scheduler:8786, whose workers see the same paths.
        max_rejects: go on with up to this many images that cannot be decoded, listed in rejects.csv.
        allow_unlabelled: leave out images that have no labels.
        allow_empty_folds: pack although the split leaves a fold without images.
    """
    from shards.pack import pack as pack_shards

    pack_shards(
        out,
        dataset,
        images,
        labels,
        split,
        size=None if size == "original" else size,
        codec=codec,
        quality=quality,
        seed=seed,
        views=views,
        num_workers=workers,
        dask=dask,
        max_rejects=max_rejects,
        allow_unlabelled=allow_unlabelled,
        allow_empty_folds=allow_empty_folds,
    )


def verify(shards: Positional[Path], decode: bool = False, workers: int | None = None) -> None:
    """Recount and rehash a shard folder; end with status 2 at the first damage.

    Example: chexnet-fast verify build/nih

    Args:
        shards: the shard folder.
        decode: decode every image too.
        workers: processes; all cores if not given.
    """
    from shards.verify import verify as verify_shards

    print(verify_shards(shards, num_workers=workers, decode=decode))


def relabel(shards: Positional[Path], labels: Path) -> None:
    """Give packed images new labels: a new table beside the old one, in seconds.

    Example: chexnet-fast relabel build/nih --labels nih/Data_Entry_2017_v2020.csv

    Args:
        shards: the shard folder.
        labels: the new label table, of the same data set.
    """
    from shards.relabel import relabel as relabel_shards

    print(relabel_shards(shards, labels))


def explore(shards: Positional[Path], out: Path, seed: int = 0, augment: str | None = None) -> None:
    """Draw what a data set holds: findings, co-occurrence, ages, sexes, views, samples; as pictures, tables and a page.

    Example: chexnet-fast explore build/nih --out build/explore

    Args:
        shards: the shard folder.
        out: the folder to write.
        seed: fixes the samples.
        augment: draw a contact sheet of this augmentation instead, such as standard or chexphoto-photographic.
    """
    if augment is not None:
        from chexnet_fast.contact_sheet import draw_contact_sheet

        print(draw_contact_sheet(shards, augment, out, seed))
        return
    from chexnet_fast.explore import explore as explore_shards

    print(explore_shards(shards, out, seed))
