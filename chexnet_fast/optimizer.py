"""The optimizer of a training run."""

import torch
from torch import nn

from chexnet_fast.config import TrainConfig


def build_optimizer(config: TrainConfig, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return a fresh optimizer over all of the model's parameters; on a GPU one kernel updates them all."""
    parameters = list(model.parameters())
    fused = parameters[0].is_cuda
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=config.weight_decay, fused=fused)
    betas = (config.momentum, 0.999)
    return torch.optim.AdamW(parameters, lr, betas, weight_decay=config.weight_decay, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
