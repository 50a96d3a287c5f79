"""The command line. Heavy imports stay inside the handlers, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from chexnet_fast.config import RECIPES, TrainConfig
from shards.errors import UserError

app = SubcommandApp()
bench = SubcommandApp()
Device = Literal["cuda", "cpu"]
FoldName = Literal["train", "val", "test"]


@app.command
def demo(out: Positional[Path], seed: int = 0) -> None:
    """Go the whole way on phantom images: pack, train on the CPU, evaluate, draw and report.

    Example: chexnet-fast demo build/demo

    Args:
        out: the folder for everything that the demo makes.
        seed: fixes the phantoms, the split, the first weights and the order of training.
    """
    from chexnet_fast.demo import run_demo

    run_demo(out, seed)


@app.command
def phantom(out: Positional[Path], images: int, size: int = 1024, seed: int = 0, enrich: float = 1.0) -> None:
    """Write a synthetic data set in NIH's layout and file formats.

    Example: chexnet-fast phantom build/phantom --images 100

    Args:
        out: the folder to write.
        images: how many images.
        size: side of the square images in pixels.
        seed: fixes every byte.
        enrich: how many times as common as at NIH the findings are.
    """
    from shards.datasets.phantom import write_phantoms

    write_phantoms(out, images, size, seed, enrich)


@app.command
def pack(
    out: Positional[Path],
    images: tuple[Path, ...],
    labels: Path,
    split: tuple[str, ...] = (),
    dataset: Literal["nih"] = "nih",
    size: int | Literal["original"] = 224,
    codec: Literal["raw", "png", "jpeg"] = "raw",
    quality: int = 95,
    seed: int = 0,
    workers: int | None = None,
    max_rejects: int = 0,
    allow_unlabelled: bool = False,
    allow_empty_folds: bool = False,
) -> None:
    """Pack a data set into WebDataset shards, once.

    Example: chexnet-fast pack build/nih --images nih/images --labels nih/Data_Entry_2017_v2020.csv --split patient

    Args:
        out: the shard folder to write; packing that was cut short goes on there.
        images: folders that hold the image files.
        labels: the label table.
        split: a file that gives each image's fold, NIH's train_val_list.txt and test_list.txt, or the word patient
            to draw folds by patient; if not given, the label table's own fold column.
        dataset: the data set's layout.
        size: side of the packed images in pixels, or original.
        codec: raw pixels, png (the same pixels, compressed), or jpeg.
        quality: JPEG quality, 1 to 95.
        seed: fixes the split and the order of the training images.
        workers: processes; all cores if not given.
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
        num_workers=workers,
        max_rejects=max_rejects,
        allow_unlabelled=allow_unlabelled,
        allow_empty_folds=allow_empty_folds,
    )


@app.command
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


@app.command
def score(preds: Positional[Path], labels: Path, out: Path) -> None:
    """Make the AUC tables and ROC curves from saved predictions.

    Example: chexnet-fast score preds.csv --labels Data_Entry_2017_v2020.csv --out build/score

    Args:
        preds: predictions, `Image Index` and one prob_ column per finding.
        labels: the label table.
        out: the folder to write.
    """
    from chexnet_fast.score import score as score_predictions

    print(score_predictions(preds, labels, out))


@bench.command(name="loaders")
def bench_loaders(
    images: Path, shards: Path, out: Path, workers: int = len(os.sched_getaffinity(0)), device: Device = "cpu"
) -> None:
    """Measure what the loaders reach beside the PIL reference, in one run.

    Example: chexnet-fast bench loaders --images nih/images --shards build/nih --out build/bench

    Args:
        images: the folder of the original images.
        shards: the same images packed.
        out: the folder for the tables.
        workers: worker processes of the reference, threads of DALI.
        device: where DALI works.
    """
    from bench.loaders import bench_loaders as measure_loaders
    from bench.loaders import format_rows

    print(format_rows(measure_loaders(images, shards, out, workers, device)))


def train_command(default: TrainConfig) -> Callable[..., None]:
    """Return the train command whose options default to a recipe's values, so that its help shows them."""

    def train(
        shards: Positional[Path],
        run: Positional[Path],
        config: Annotated[TrainConfig, arg(name="")] = default,
        resume: bool = False,
        weights: Path | None = None,
        pretrained: bool = True,
    ) -> None:
        """Train a DenseNet-121 on shards.

        Example: chexnet-fast train build/nih build/run

        Several GPUs: torchrun --nproc-per-node 8 -m chexnet_fast train build/nih build/run

        Args:
            shards: the shard folder.
            run: the run folder to write, or with --resume to go on in.
            config: the recipe's values.
            resume: go on where the run stopped.
            weights: start from these weights, a run's best.safetensors.
            pretrained: start from ImageNet weights where no file is given.
        """
        from chexnet_fast.launch import run_training

        run_training(config, shards, run, resume, weights, pretrained)

    return train


@app.command
def evaluate(
    run: Positional[Path],
    shards: Positional[Path],
    out: Path,
    fold: FoldName = "test",
    device: Device = "cuda",
    loader: Literal["dali", "pil"] = "dali",
    batch_size: int = 64,
) -> None:
    """Predict a fold with a run's best weights; write predictions, AUC tables, pictures and a report.

    Example: chexnet-fast evaluate build/run build/nih --out build/evaluation

    Args:
        run: the run folder.
        shards: the shard folder.
        out: the folder to write.
        fold: the fold to predict.
        device: where to predict.
        loader: what reads the images.
        batch_size: images in a batch.
    """
    from chexnet_fast.evaluate import evaluate as evaluate_run

    print(evaluate_run(run, shards, out, fold, device, loader, batch_size))


@app.command
def heatmap(
    run: Positional[Path],
    images: tuple[Path, ...],
    finding: str,
    out: Path,
    boxes: Path | None = None,
    labels: Path | None = None,
    device: Device = "cpu",
) -> None:
    """Draw a finding's class activation map beside each X-ray.

    Example: chexnet-fast heatmap build/run --images nih/images/00000100_000.png --finding Effusion --out build/heatmaps

    Args:
        run: the run folder.
        images: image files.
        finding: the finding that the map is of.
        out: the folder for one PNG per image.
        boxes: NIH's BBox_List_2017.csv, to draw the known boxes.
        labels: a label table, to show the truth.
        device: where to predict.
    """
    from chexnet_fast.explain import draw_heatmaps

    for path in draw_heatmaps(run, images, finding, out, boxes, labels, device):
        print(path)


@app.command
def plot(runs: Positional[tuple[Path, ...]], out: Path) -> None:
    """Draw the curves of several runs in one picture; reproduce-chexnet's log_train files are read too.

    Example: chexnet-fast plot build/run build/other-run --out build/curves.png

    Args:
        runs: run folders or log_train files.
        out: the PNG to write.
    """
    from chexnet_fast.plots import plot_logs

    plot_logs(runs, out)


app.command(bench, name="bench", help="Measure loaders, packing and training beside their references.")


def main() -> None:
    """Run a command; print a user's error as one line and exit with status 2."""
    try:
        app.command(name="train")(train_command(chosen_recipe(sys.argv)))
        app.cli(prog="chexnet-fast", description="CheXNet retraining at the speed of the hardware.")
    except UserError as error:
        print(f"chexnet-fast: {error}", file=sys.stderr)
        sys.exit(2)


def chosen_recipe(arguments: Sequence[str]) -> TrainConfig:
    """Return the recipe that --recipe names among the arguments; `reference` if it is not there.

    Raises:
        UserError: if there is no such recipe.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="reference")
    name = parser.parse_known_args(arguments)[0].recipe
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()
