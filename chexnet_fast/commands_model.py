"""The commands that train, predict and draw. Heavy imports stay inside, so that --help answers at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from chexnet_fast.config import TrainConfig

Device = Literal["cuda", "cpu"]
FoldName = Literal["train", "val", "test"]


def demo(out: Positional[Path], seed: int = 0, shuffle_labels: bool = False) -> None:
    """Go the whole way on phantom images: pack, train on the CPU, evaluate, draw and report.

    Example: chexnet-fast demo build/demo

    Args:
        out: the folder for everything that the demo makes.
        seed: fixes the phantoms, the split, the first weights and the order of training.
        shuffle_labels: the control: with labels that do not belong to the images the AUCs must be 0.5.
    """
    from chexnet_fast.demo import run_demo

    run_demo(out, seed, shuffle_labels)


def import_weights(file: Positional[Path], run: Positional[Path], shards: Path | None = None) -> None:
    """Turn a checkpoint of reproduce-chexnet's kind into a run folder; nothing that it pickles is executed.

    Example: chexnet-fast import-weights results/checkpoint build/imported

    Args:
        file: the checkpoint, a torchvision DenseNet-121 or its state dict.
        run: the run folder to write.
        shards: the shards that it was trained on; if not given, NIH's shared random split, as reproduce-chexnet's.
    """
    from chexnet_fast.import_weights import import_weights as import_checkpoint

    import_checkpoint(file, run, shards)


def export(run: Positional[Path], out: Path) -> None:
    """Write a run's best model as ONNX: uint8 X-rays in, probabilities out, in batches of any size.

    Example: chexnet-fast export build/run --out build/run.onnx

    Args:
        run: the run folder.
        out: the ONNX file to write.
    """
    from chexnet_fast.onnx_export import export_onnx

    export_onnx(run, out)


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


def evaluate(
    run: Positional[Path],
    shards: Positional[Path],
    out: Path,
    fold: FoldName = "test",
    device: Device = "cuda",
    loader: Literal["dali", "resident", "pil", "pil-shards"] = "dali",
    batch_size: int = 64,
) -> None:
    """Predict a fold with a run's best weights; write predictions, AUC tables, pictures and a report.

    Example: chexnet-fast evaluate build/run build/nih --out build/evaluation

    Args:
        run: the run folder.
        shards: the shard folder.
        out: the folder to write.
        fold: the fold to predict; val and test are refused if they hold a patient that the run was trained on.
        device: where to predict.
        loader: what reads the images.
        batch_size: images in a batch.
    """
    from chexnet_fast.evaluate import evaluate as evaluate_run

    scores = evaluate_run(run, shards, out, fold, device, loader, batch_size)
    if scores is not None:  # the first rank has them
        print(scores)


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


def plot(runs: Positional[tuple[Path, ...]], out: Path) -> None:
    """Draw the curves of several runs in one picture; reproduce-chexnet's log_train files are read too.

    Example: chexnet-fast plot build/run build/other-run --out build/curves.png

    Args:
        runs: run folders or log_train files.
        out: the PNG to write.
    """
    from chexnet_fast.plots import plot_logs

    plot_logs(runs, out)
