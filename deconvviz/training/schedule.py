"""The optimiser of a recipe, and its learning rate at every step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from deconvviz.errors import DeconvvizValueError
from deconvviz.models.recipes import Recipe


def optimiser(modules: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of all parameters of `modules`, whose names start with "model." where recipes name them."""
    groups: list[dict[str, Any]] = []
    for name, p in modules.named_parameters():
        own = name.removeprefix("model.")
        factor = next((f for prefix, f in recipe.factors if own.startswith(prefix)), 1.0)
        if factor == 0:  # momentum and weight decay would move what is to stay as it is
            p.requires_grad_(False)
            continue
        # Biases and BatchNorm have no weight decay: pulling them to zero regularises nothing.
        decays = p.dim() > 1 and not own.startswith(recipe.undecayed)
        groups.append({"params": [p], "factor": factor, "weight_decay": recipe.weight_decay if decays else 0.0})
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)
    raise DeconvvizValueError(f"optimiser is '{recipe.optimiser}'; allowed: 'adamw', 'sgd'")


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`; the epochs of the head alone have a schedule of their own."""
    own = steps * recipe.head // max(recipe.epochs, 1)
    if recipe.head and step >= steps - own:
        return rate(replace(recipe, head=0, lr=recipe.lr / 3, warmup=0), step - (steps - own), own)
    share = step / max(steps - own, 1)
    lr = recipe.lr * min(1.0, (step + 1) / recipe.warmup if recipe.warmup else 1.0)
    if recipe.schedule == "cosine":
        return lr * (recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * share)))
    if recipe.schedule == "step":
        return lr * recipe.decay ** sum(share >= m for m in recipe.milestones)
    raise DeconvvizValueError(f"schedule is '{recipe.schedule}'; allowed: 'cosine', 'step'")
