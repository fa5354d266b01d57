"""The processes that share a scan; one alone exchanges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `size`; what they tell each other goes over the processor, whatever computes."""

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes the store."""
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


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The processes of `torch.distributed` if it is set up, else those that `torchrun` started, else one alone."""
    ready = dist.is_available() and dist.is_initialized()
    if not ready and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    if not ready:
        dist.init_process_group("gloo")
    try:
        group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    finally:
        if not ready:
            dist.destroy_process_group()
