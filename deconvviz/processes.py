"""Several processes that work together, started by `torchrun` or by the caller; one alone exchanges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among `size`; what they tell each other goes over the processor (gloo), whatever computes."""

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def tell(self, value: T) -> T:
        """The leader's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, group=self.group)
        return box[0]

    def collect(self, value: T) -> list[T]:
        """Every process's value in the order of ranks, at the leader; nothing elsewhere."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, gathered, 0, group=self.group)
        return gathered or []

    def add_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, all in one exchange. One dtype."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        dist.all_reduce(flat, group=self.group)
        for part, tensor in zip(torch.split(flat, [t.numel() for t in tensors]), tensors, strict=True):
            tensor.detach().copy_(part.view(tensor.shape))

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        self.add_(tensors)
        if self.size > 1:
            for tensor in tensors:
                tensor.detach().div_(self.size)

    def follow_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the leader."""
        for tensor in tensors if self.size > 1 else ():
            copy = tensor.detach().contiguous()
            dist.broadcast(copy, 0, group=self.group)
            tensor.detach().copy_(copy)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier(group=self.group)


def leads() -> bool:
    """Whether this process writes and reports: the first of those that `torchrun` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def team() -> Iterator[Team]:
    """The processes of `torch.distributed` if it is set up, else those that `torchrun` started, else one alone."""
    ready = dist.is_available() and dist.is_initialized()
    if not ready and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    if not ready:
        dist.init_process_group("gloo")
    try:
        group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        yield Team(dist.get_rank(), dist.get_world_size(), group)
    finally:
        if not ready:
            dist.destroy_process_group()
