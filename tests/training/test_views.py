"""Random views are functions of their generator, ten crops of nothing."""

from __future__ import annotations

import torch

from deconvviz.models.recipes import RECIPES, Augmentation
from deconvviz.training import augment, ten_crops


def test_augment_is_a_function_of_the_generator_and_off_by_default() -> None:
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 20, 20), generator=g, dtype=torch.uint8)
    plain, place = augment(picture, 20, Augmentation(), torch.Generator().manual_seed(1))
    assert torch.equal(plain, picture.float() / 255) and place.tolist() == [0, 0, 1, 1]
    how = RECIPES["zfnet"].augmentation
    views = [augment(picture, 16, how, torch.Generator().manual_seed(s))[0] for s in (1, 1, *range(2, 40))]
    assert torch.equal(views[0].nan_to_num(9.0), views[1].nan_to_num(9.0))
    assert len({v.nan_to_num(9.0).sum().item() for v in views[1:]}) == 39
    erased = sum(bool(v.isnan().any()) for v in views[1:])
    assert 3 < erased < 20  # a quarter of 39
    assert all(v.nan_to_num(0.0).min() >= 0 and v.nan_to_num(0.0).max() <= 1 for v in views)


def test_ten_crops_are_corners_centre_and_mirrors() -> None:
    picture = torch.arange(36, dtype=torch.uint8).view(1, 6, 6)
    crops = ten_crops(picture, 6, 4)
    assert sorted(c[0, 0, 0].item() for c in crops[:5]) == [0, 2, 7, 12, 14]
    assert torch.equal(crops[5:], crops[:5].flip(-1)) or torch.equal(
        crops[5:].sort(0).values, crops[:5].flip(-1).sort(0).values
    )
