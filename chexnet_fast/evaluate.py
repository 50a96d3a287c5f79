"""Evaluate a trained run: predictions, tables, heatmaps and the report."""

import sys
from pathlib import Path

from chexnet_fast import distributed
from chexnet_fast.explain import draw_clearest
from chexnet_fast.predict import predict
from chexnet_fast.predictions import write_predictions
from chexnet_fast.report import write_report
from chexnet_fast.rundir import RunDir
from chexnet_fast.score import Scores, write_scores
from chexnet_fast.trained import load_run
from chexnet_fast.trainlog import read_train_log
from pipelines.build import build_loader
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.policy import apply_policy
from shards.table import read_table

NUM_HEATMAPS = 6
"""Heatmaps that an evaluation draws."""


def evaluate(run: Path, shards: Path, out: Path, fold: str, device: str, loader: str, batch_size: int) -> Scores | None:
    """Predict a fold with a run's best weights, and write all that follows from the predictions.

    `out` gets preds.csv, aucs.csv and the other tables of `write_scores`, heatmaps, and report.html. Under torchrun
    the ranks share the images, and the first one writes. Uncertain and blank labels count as they did in the training.

    Returns:
        The scores on the first rank, None on the others.

    Raises:
        UserError: if the run or the shards cannot be read, their findings differ, the fold is empty, or it is no
            training fold and shares patients with the run's.
    """
    manifest = read_manifest(shards)
    with distributed.process_group(device) as torch_device:
        trained = load_run(run, torch_device)
        if manifest.findings != trained.findings:
            raise UserError(
                f"{run}: predicts {', '.join(trained.findings)}, but {shards} holds {', '.join(manifest.findings)}; "
                "give shards with the run's findings"
            )
        opened = open_fold(shards, manifest, fold, trained.policy)
        if fold != "train":
            check_unseen(run, trained.train_patients, set(opened.table["patient_id"]), f"{fold} fold of {shards}")
        batches = build_loader(
            loader,
            shards,
            fold,
            InputSpec(trained.size),
            batch_size,
            device=torch_device,
            rank=distributed.rank(),
            num_ranks=distributed.num_ranks(),
            policy=trained.policy,
        )
        predictions = predict(trained.scorer(), batches, opened.table, trained.findings, torch_device)
        if distributed.rank() != 0:
            return None
        out.mkdir(parents=True, exist_ok=True)
        write_predictions(predictions, out / "preds.csv")
        scores = write_scores(predictions, opened.table["patient_id"].to_numpy(), out)
        heatmaps = draw_clearest(trained, opened, predictions, NUM_HEATMAPS, out / "heatmaps")
        table = read_table(shards / manifest.table, manifest.findings)
        findings = list(manifest.findings)
        table[findings] = apply_policy(table[findings].to_numpy(), findings, trained.policy)
        log = read_train_log(RunDir(run).log) if RunDir(run).log.exists() else None
        write_report(out, scores, fold, table, trained.description, log, heatmaps)
        return scores


def check_unseen(run: Path, train_patients: frozenset[str] | None, patients: set[str], fold: str) -> None:
    """Make sure that a run was trained on none of a fold's patients, or warn that nobody knows.

    Raises:
        UserError: if it was trained on some; names their number and the first.
    """
    if train_patients is None:
        if distributed.rank() == 0:
            print(
                f"chexnet-fast: {run} does not know its training patients: make sure that none is in the {fold}",
                file=sys.stderr,
            )
        return
    seen = sorted(patients & train_patients)
    if seen:
        raise UserError(
            f"{run}: was trained on {len(seen):,} of the {len(patients):,} patients of the {fold} "
            f"({', '.join(seen[:3])} ...); give shards packed with the split that the run was trained on"
        )
