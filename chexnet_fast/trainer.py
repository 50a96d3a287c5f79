"""Train a model: the loop, top down."""

import dataclasses
import math
import signal
import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from chexnet_fast import distributed
from chexnet_fast.amp import amp_dtype
from chexnet_fast.config import TrainConfig
from chexnet_fast.curves import Curves
from chexnet_fast.interrupts import Interrupts, listen, resume_hint
from chexnet_fast.losses import bce_sum, objective
from chexnet_fast.metrics import auc_table, mean_auc
from chexnet_fast.optimizer import build_optimizer, set_lr
from chexnet_fast.predict import predict_logits, to_predictions
from chexnet_fast.progress import Progress
from chexnet_fast.replay import fast_model
from chexnet_fast.rundir import RunDir, load_state, save_state, write_log
from chexnet_fast.schedule import Plateau, step_lr
from chexnet_fast.sync_norm import synchronise_norms
from chexnet_fast.timing import DataWait
from chexnet_fast.weights import save_weights
from pipelines.batch import Batch, Loader
from shards.errors import UserError

SETTLE_STEPS = 50
"""Losses stay on the device, unread, for as many steps."""
AGREE_STEPS = 10
"""Several ranks ask each other as often whether one was told to stop: asking takes longer than a step should wait."""


def train(
    config: TrainConfig,
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    val_table: pd.DataFrame,
    findings: Sequence[str],
    run: RunDir,
    device: torch.device,
    class_weights: torch.Tensor | None = None,
) -> None:
    """Train a model from where its run folder says that it stands, to the end of its schedule.

    On the CPU the weights and the log (its timings apart) are a function of the arguments: the same bits come out
    whether or how often the training was interrupted and resumed, for the same number of torch's threads.

    Args:
        config: the complete config, the size included.
        model: with its first weights.
        train_loader: yields this rank's batches, shuffled and augmented.
        val_loader: yields this rank's part of the validation fold.
        val_table: the validation fold's rows of the study table.
        findings: the model's logits, in order.
        run: the run's folder, which exists.
        device: where to train.
        class_weights: as for bce_sum.

    Raises:
        UserError: if a loss or weight is not finite, or the disk is full.
        SystemExit: with status 128 + signal after SIGTERM or SIGINT.
    """
    with listen() as interrupts:
        training = Training(config, model, findings, run, device, interrupts, class_weights)
        training.restore()
        while not training.progress.plateau.finished:
            training.train_epoch(train_loader)
            val_loss, val_auc = training.validate(val_loader, val_table)
            training.finish_epoch(train_loader.num_images, val_loss, val_auc)
        if training.is_writer:
            training.curves.close()


class Training:
    """A model in training: its optimizer, its progress, and the steps that move them on.

    Args:
        config: the complete config.
        model: with its first weights; moved to `device`.
        findings: the model's logits, in order.
        run: where checkpoints and curves go.
        device: where to train.
        interrupts: what to answer at the next step.
        class_weights: as for bce_sum.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        findings: Sequence[str],
        run: RunDir,
        device: torch.device,
        interrupts: Interrupts,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(device).to(memory_format=memory_format)
        if config.sync_batch_norm:
            synchronise_norms(self.model)
        self.config = config
        self.findings = findings
        self.run = run
        self.device = device
        self.interrupts = interrupts
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.amp_dtype = amp_dtype(config.amp, device)
        self.progress = Progress(Plateau(config.lr))
        self.optimizer = build_optimizer(config, model, config.lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype == torch.float16)
        self.is_writer = distributed.rank() == 0
        self.unsettled: list[tuple[torch.Tensor, torch.Tensor, np.ndarray]] = []
        self.data_wait = DataWait(device)
        self.saved_at = self.settled_at = time.perf_counter()

    def restore(self) -> None:
        """Take up the state of the run folder, if it holds one, and share the model among the ranks."""
        state = load_state(self.run)
        if state is not None:
            self.progress = Progress.from_state(state["progress"])
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        self.step_model = fast_model(self.model, self.config, self.device, self.amp_dtype)
        self.shared_model = distributed.wrap(self.step_model, self.device)
        if self.is_writer:
            self.curves = Curves(self.config, self.run, self.progress.epoch)

    def train_epoch(self, loader: Loader) -> None:
        """Train on the batches of the current epoch that are left."""
        progress = self.progress
        self.shared_model.train()
        bar = tqdm(
            loader.epoch(progress.epoch - 1, progress.num_batches),
            f"epoch {progress.epoch}",
            loader.num_batches,
            initial=progress.num_batches,
            leave=False,
            disable=None if self.is_writer else True,
        )
        self.settled_at = time.perf_counter()
        self.data_wait.device_is_ready()
        for batch in bar:
            set_lr(self.optimizer, step_lr(self.config, progress.plateau, progress.num_batches, loader.num_batches))
            self.train_step(batch.to(self.device))
            progress.num_batches += 1
            if progress.num_batches % SETTLE_STEPS == 0:
                self.settle()
                bar.set_postfix(loss=f"{progress.train_loss:.4f}")
                if time.perf_counter() - self.saved_at > 60 * self.config.checkpoint_minutes:
                    self.save()
            if distributed.num_ranks() == 1 or progress.num_batches % AGREE_STEPS == 0:
                self.answer_interrupt()
        self.settle()

    def train_step(self, batch: Batch) -> None:
        """Move the weights by one batch on the device, without waiting for it."""
        images, labels = batch.images, batch.labels
        self.data_wait.batch_arrived()
        if len(batch.rows) == 0 and not self.config.sync_batch_norm:
            images, labels = self.blank_batch(images, labels)
        with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype != torch.float32):
            logits = self.shared_model(images)
        loss_sum, num_known = bce_sum(logits, labels, self.class_weights)
        self.scaler.scale(objective(loss_sum, num_known)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.unsettled.append((loss_sum.detach(), num_known, batch.rows))
        self.data_wait.device_is_ready()

    def blank_batch(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch that changes nothing, for a rank that got none of an epoch's last images.

        All ranks must take part in each exchange of gradients. One blank image whose labels are all unknown has loss
        and gradient zero, and in evaluation mode it leaves batch norm's statistics alone.
        """
        self.shared_model.eval()
        return images.new_zeros(1, *images.shape[1:]), labels.new_full((1, labels.shape[1]), math.nan)

    def settle(self) -> None:
        """Read the losses of the last steps from the device, over all ranks, and add them to the progress.

        They are added one by one in float64, so that it does not matter when this is called.

        Raises:
            UserError: if a loss or a weight is not finite; names the epoch, the step and the rows of its batch.
        """
        if not self.unsettled:
            return
        losses, counts, rows = zip(*self.unsettled, strict=True)
        self.unsettled.clear()
        sums = distributed.sum_over_ranks(torch.stack([torch.stack(losses), torch.stack(counts)])).tolist()
        self.check_finite(sums[0], rows)
        for loss_sum, num_known in zip(*sums, strict=True):
            self.progress.loss_sum += loss_sum
            self.progress.num_known += num_known
        self.progress.wait_seconds += self.data_wait.take_seconds()
        self.progress.seconds += time.perf_counter() - self.settled_at
        self.settled_at = time.perf_counter()

    def check_finite(self, losses: Sequence[float], rows: Sequence[np.ndarray]) -> None:
        """Raise UserError at the first of the last steps whose loss, or whose effect on the weights, is not finite."""
        bad = [step for step, loss in enumerate(losses) if not math.isfinite(loss)]
        if not bad and not torch.stack([weight.detach().sum() for weight in self.model.parameters()]).isfinite().all():
            bad = [len(losses) - 1]
        if bad:
            step = self.progress.num_batches - len(losses) + bad[0] + 1
            bad_rows = np.concatenate(distributed.gather(rows[bad[0]])).tolist()
            raise UserError(
                f"{self.run.path}: the loss is not finite, epoch {self.progress.epoch}, step {step}, rows {bad_rows}: "
                "the checkpoint before it is kept: look at these images, or train into another folder with a lower "
                "--lr or --amp float32"
            )

    def validate(self, loader: Loader, table: pd.DataFrame) -> tuple[float, float]:
        """Return the mean loss over the validation fold's known labels, and the mean AUC; equal on all ranks.

        Raises:
            UserError: if the loss is not finite, or the fold has no known label.
        """
        distributed.share_buffers(self.model)
        rows = table["row"].to_numpy(np.int32)
        logits, labels = predict_logits(
            self.step_model, loader, rows, self.device, self.amp_dtype, self.answer_interrupt
        )
        loss_sum, num_known = bce_sum(logits, labels, self.class_weights)
        val_loss = float(loss_sum / num_known)
        if not math.isfinite(val_loss):
            raise UserError(
                f"{self.run.path}: epoch {self.progress.epoch} has validation loss {val_loss} over {int(num_known)} "
                "known labels; the checkpoint before it is kept: train into another folder with a lower --lr"
            )
        return val_loss, mean_auc(auc_table(to_predictions(logits, labels, table, self.findings)))

    def finish_epoch(self, num_images: int, val_loss: float, val_auc: float) -> None:
        """Log, keep the weights, and move on to the next epoch.

        state.pt is written last: a run that dies before it repeats what it had written, and writes the same again.
        """
        before = self.progress
        row = before.log_row(num_images, val_loss, val_auc, self.optimizer.param_groups[0]["lr"])
        plateau = before.plateau.after_epoch(val_loss, self.config)
        self.progress = Progress(plateau, log=[*before.log, row])
        if plateau.lr != before.plateau.lr:
            # As in reproduce-chexnet, a new learning rate comes with a new optimizer: momentum starts from nothing.
            self.optimizer = build_optimizer(self.config, self.model, plateau.lr)
        if self.is_writer:
            save_weights(self.model, self.run.last, self.findings)
            if plateau.improved:
                save_weights(self.model, self.run.best, self.findings)
            self.log(row)
        self.save()

    def log(self, row: dict[str, float]) -> None:
        """Add an epoch to log_train.csv, the curves and the terminal."""
        write_log(self.run, self.progress.log)
        self.curves.add(row)
        tqdm.write(
            f"epoch {row['epoch']}: train loss {row['train_loss']:.4f}, val loss {row['val_loss']:.4f}, "
            f"val AUC {row['val_auc']:.4f}, lr {row['lr']:g}, {row['images_per_second']:.0f} img/s, "
            f"{row['data_wait']:.1%} waiting for data",
            file=sys.stderr,
        )

    def answer_interrupt(self) -> None:
        """If any rank was told to stop, save the state, say how to go on, and leave with the signal's status."""
        number = distributed.largest_over_ranks(self.interrupts.received)
        if not number:
            return
        self.settle()
        self.save()
        if self.is_writer:
            where = f"epoch {self.progress.epoch}, after step {self.progress.num_batches}"
            tqdm.write(
                f"{signal.Signals(number).name} in {where}: the state is saved; {resume_hint()}",
                file=sys.stderr,
            )
        raise SystemExit(128 + number)

    def save(self) -> None:
        """Write state.pt; the losses must be settled, so that no broken weights are kept."""
        self.saved_at = time.perf_counter()
        if self.is_writer:
            save_state(
                self.run,
                {
                    "progress": dataclasses.asdict(self.progress),
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                },
            )
