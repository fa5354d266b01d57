"""Torch's data sets and loaders as numbered pictures, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from deconvviz.errors import DeconvvizTypeError


def data_set(images: Any) -> Any:
    """The data set that `images` is, or that a loader reads, else None.

    A loader stands for its data set, in its order, with the items that its sampler leaves; how it batches and shuffles
    does not matter. Raises `DeconvvizTypeError` for data without numbers, and for another sampler.
    """
    if isinstance(images, DataLoader):
        return data_set(_sampled(images))
    if isinstance(images, IterableDataset) or (
        isinstance(images, Dataset) and not (hasattr(images, "__len__") and hasattr(images, "__getitem__"))
    ):
        raise DeconvvizTypeError(
            f"images is a {type(images).__name__}; allowed: a folder, a list of files, or a data set with a length"
        )
    return images if isinstance(images, Dataset) else None


def _sampled(loader: DataLoader[Any]) -> Any:
    sampler = loader.sampler
    if isinstance(loader.dataset, IterableDataset) or isinstance(sampler, SequentialSampler):
        return loader.dataset
    if (
        isinstance(sampler, RandomSampler)
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    ):
        return loader.dataset
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, sorted(int(k) for k in sampler.indices))
    raise DeconvvizTypeError(f"images is a loader with a {type(sampler).__name__}; give the data set itself")


class DataSetPictures(Sequence[Any]):
    """The pictures of a data set, whose items are pictures, alone or first in a tuple (picture, class, …)."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return first_of(self.data[index % len(self)])


def first_of(item: Any) -> Any:
    """The picture of an item, which may be a tuple that begins with it."""
    return item[0] if isinstance(item, tuple | list) and item else item


def classes_of(data: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The class of every item, and the classes' names; items are read unless the data set has a list of `targets`.

    Raises `DeconvvizTypeError` if an item has no whole number beside its picture.
    """
    known = getattr(data, "targets", None)
    if known is None or len(known) != len(data):
        known = [
            item[1] if isinstance(item := data[k], tuple | list) and len(item) > 1 else None for k in range(len(data))
        ]
    try:
        classes = tuple(int(k) for k in known)
    except (TypeError, ValueError) as error:
        raise DeconvvizTypeError("the data set's items have no classes; allowed: (picture, class number)") from error
    names = getattr(data, "classes", None)
    most = max(classes, default=-1) + 1
    if isinstance(names, Sequence) and len(names) >= most:
        return classes, tuple(map(str, names))
    return classes, tuple(f"class {k}" for k in range(most))
