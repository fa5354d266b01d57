"""Several processes that train together, started by `torchrun`: each takes its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """This process among `size` that work together; a team of one exchanges nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def add_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, all in one exchange. One dtype."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        _spread(flat, tensors)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        self.add_(tensors)
        if self.size > 1:
            for tensor in tensors:
                tensor.detach().div_(self.size)

    def follow_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the leader."""
        if self.size == 1:
            return
        for tensor in tensors:
            copy = tensor.detach().contiguous()
            dist.broadcast(copy, 0)
            tensor.detach().copy_(copy)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()


def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [t.numel() for t in tensors])
    for part, tensor in zip(parts, tensors, strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def leads() -> bool:
    """Whether this process writes and reports: the first of those that `torchrun` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def team() -> Iterator[Team]:
    """The processes that `torchrun` started, connected; without it, a team of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    dist.init_process_group("gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
