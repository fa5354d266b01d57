"""Data sets and loaders as numbered pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from deconvviz.data.datasets import DataSetPictures, classes_of, data_set
from deconvviz.errors import DeconvvizTypeError


class Arrays(Dataset[Any]):
    """Arrays with their class, of a data set that knows its classes' names."""

    classes = ("cat", "dog", "cow")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> Any:
        return np.full((2, 2, 3), k, np.uint8), k % 2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(3, 2, 2)


def test_pictures_by_number() -> None:
    pictures = DataSetPictures(Arrays())
    assert [int(p[0, 0, 0]) for p in pictures] == [0, 1, 2, 3] and len(pictures[1:3]) == 2
    assert int(pictures[-1][0, 0, 0]) == 3
    with pytest.raises(IndexError):
        pictures[4]
    assert DataSetPictures(TensorDataset(torch.arange(3)))[2] == 2


def test_classes() -> None:
    assert classes_of(Arrays()) == ((0, 1, 0, 1), ("cat", "dog", "cow"))
    inputs = torch.zeros(3, 1)
    assert classes_of(TensorDataset(inputs, torch.tensor([2, 0, 1])))[1] == ("class 0", "class 1", "class 2")
    with pytest.raises(DeconvvizTypeError, match="no classes"):
        classes_of(TensorDataset(inputs))


def test_a_loader_stands_for_its_data_set() -> None:
    data = Arrays()
    assert data_set(data) is data and data_set([1]) is None and data_set("folder") is None
    assert data_set(DataLoader(data, batch_size=3)) is data_set(DataLoader(data, shuffle=True)) is data
    some = data_set(DataLoader(data, sampler=SubsetRandomSampler([3, 1])))
    assert [int(p[0, 0, 0]) for p in DataSetPictures(some)] == [1, 3]


def test_what_has_no_numbers() -> None:
    for given in (Stream(), DataLoader(Stream())):
        with pytest.raises(DeconvvizTypeError, match="Stream; allowed: a folder, a list of files, or a data set"):
            data_set(given)
    with pytest.raises(DeconvvizTypeError, match="WeightedRandomSampler; give the data set itself"):
        data_set(DataLoader(Arrays(), sampler=WeightedRandomSampler([0.5] * 4, 9)))
