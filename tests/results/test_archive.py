"""What is loaded is what was saved, or an error of ours: sizes before inflating, then content, shapes and types."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deconvviz
from deconvviz import ResultError
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.results.archive import SHA256, digest, read_arrays
from deconvviz.results.base import LayerResult
from deconvviz.results.shapes import check_shapes, fits, shapes_of


@dataclass(frozen=True, eq=False)
class Shaped(LayerResult):
    units: Annotated[Tensor, "K"]
    places: Annotated[Tensor, "K 2"]
    names: tuple[str, ...]
    rows: Annotated[Tensor | None, "names K _"] = None


def shaped() -> Shaped:
    return Shaped("conv", None, torch.arange(3), torch.zeros(3, 2), ("a", "b"), torch.ones(2, 3, 7))


def members(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def test_a_sha256_of_the_content_is_inside(tmp_path: Path) -> None:
    path = shaped().save(tmp_path / "a.npz")
    inside = members(path)
    told = str(inside.pop(SHA256))
    assert told == digest(inside) and len(told) == 64
    assert Shaped.load(path) == shaped() and shaped().encoded(".npz") == path.read_bytes()
    changed = {**inside, "units": inside["units"] + 1}
    np.savez_compressed(path, **changed, sha256=np.array(told))
    with pytest.raises(ResultError, match="damaged: its SHA-256 is not that of its content"):
        Shaped.load(path)
    np.savez_compressed(path, **changed)
    with pytest.raises(ResultError, match="its SHA-256 is missing"):
        Shaped.load(path)


def as_old(path: Path, **changes: Any) -> Path:
    """The file as the first format had it, with other members; None takes one away."""
    inside = members(path)
    del inside[SHA256]
    facts = {**json.loads(str(inside["facts"])), "format": 1}
    inside = {**inside, "facts": np.array(json.dumps(facts)), **changes}
    np.savez_compressed(path, **{k: v for k, v in inside.items() if v is not None})
    return path


def test_old_files_load(tmp_path: Path) -> None:
    assert Shaped.load(as_old(shaped().save(tmp_path / "a.npz"))) == shaped()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"units": None}, "'units' is missing"),
        ({"units": np.arange(2)}, r"'places' has shape \(3, 2\), but K is 2 by units"),
        ({"places": np.zeros((3, 3))}, r"'places' has shape \(3, 3\), but 2 is 2 by its kind"),
        ({"places": np.zeros(3)}, r"'places' has shape \(3,\); allowed: \(K, 2\)"),
        ({"rows": np.ones((3, 3, 1))}, r"'rows' has shape \(3, 3, 1\), but names is 2 by 'names'"),
        ({"more": np.ones(1)}, "it has no 'more'"),
        ({"units": np.array([1j, 2, 3])}, "an array of complex128; allowed: numbers and text"),
        ({"facts": np.array("{")}, "is not a saved shaped"),
        ({"facts": np.array('{"format": 1, "layer": 3, "alias": null, "names": ["a", "b"]}')}, "'layer' is no str"),
        ({"facts": np.array('{"format": 1, "layer": "x", "alias": null, "names": [1, 2]}')}, "'names' is no"),
        ({"facts": np.array('{"format": 1, "alias": null, "names": ["a", "b"]}')}, "is not a saved shaped"),
        ({"facts": np.array('{"format": 3}')}, "another version"),
    ],
)
def test_files_that_cannot_be(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = as_old(shaped().save(tmp_path / "a.npz"), **changes)
    with pytest.raises(ResultError, match=said):
        Shaped.load(path)


def test_nothing_is_inflated_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (500_000_000,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("units.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(40):
            member.write(bytes(10**6))
    with pytest.raises(ResultError, match=r"holds 40,000,\d+ bytes once inflated; allowed: 10,000,000"):
        read_arrays(path, 10**7)
    with pytest.raises(ResultError, match=r"damaged: an array of shape \(500000000,\) in 40,000,"):
        read_arrays(path)
    with pytest.raises(ResultError, match="is not a saved shaped|damaged"):
        Shaped.load(path)


def test_no_damage_is_read_as_something_else(tmp_path: Path, hostile: int) -> None:
    whole = shaped().save(tmp_path / "a.npz").read_bytes()
    path, chance, errors = tmp_path / "bad.npz", np.random.default_rng(0), 0
    for n in range(300 * hostile):
        data = bytearray(whole)
        at = int(chance.integers(len(data)))
        if n % 3 == 0:
            data[at] ^= 1 << int(chance.integers(8))
        elif n % 3 == 1:
            data[at : at + 20] = chance.integers(0, 256, 20, dtype=np.uint8).tobytes()
        else:
            del data[at:]
        path.write_bytes(data)
        try:
            assert Shaped.load(path) == shaped()
        except ResultError as error:
            assert "\n" not in str(error)
            errors += 1
    assert errors > 200


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no such file"):
        Shaped.load(tmp_path / "no.npz")
    for name, data in (("empty.npz", b""), ("text.npz", b"hello"), ("half.npz", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ResultError, match="is not a saved shaped"):
            Shaped.load(tmp_path / name)
    assert issubclass(ResultError, deconvviz.DeconvvizValueError)


def test_every_tensor_of_every_result_says_its_shape() -> None:
    def below(kind: type[deconvviz.Result]) -> set[type[deconvviz.Result]]:
        return {found for sub in kind.__subclasses__() for found in (sub, *below(sub))}

    for name in deconvviz.__all__:
        getattr(deconvviz, name)
    for kind in below(deconvviz.Result):
        if kind.__module__.startswith("deconvviz."):
            assert set(kind._held().tensors) == set(shapes_of(kind)), kind


def test_letters_names_and_numbers() -> None:
    check_shapes({"a": torch.zeros(2, 5), "b": None, "c": ("x", "y")}, {"a": ("c", "_"), "b": ("K",)})
    with pytest.raises(ResultError, match="but c is 3 by 'c'"):
        check_shapes({"a": torch.zeros(2, 5), "c": (1, 2, 3)}, {"a": ("c", "_")})
    assert fits(tuple[int, ...] | None, (1, 2)) and fits(dict[str, Any], {"a": [1]}) and fits(float, 1)
    assert not fits(int, True) and not fits(tuple[int, int], (1,)) and not fits(int, 1.5) and not fits(str, None)


def test_an_occlusion_that_contradicts_itself(tmp_path: Path) -> None:
    def made(**changes: Any) -> Occlusion:
        fields: dict[str, Any] = {
            "origins": torch.zeros(6, 2), "shape": (2, 3), "window": (4, 4), "stride": (2, 2),
            "logits": torch.zeros(6, 5), "baseline": torch.zeros(5), "target": 4, "fill_values": torch.zeros(1, 1, 1),
            "image": torch.zeros(1, 8, 8),
        }  # fmt: skip
        return Occlusion(**{**fields, **changes})

    assert len(Occlusion.load(made().save(tmp_path / "a.npz"))) == 6
    for changes, said in (
        ({"shape": (2, 2)}, "'origins' has 6"), ({"target": 5}, "'target' is 5"), ({"target": -1}, "'target'"),
        ({"mask": torch.zeros(4, 5)}, "'mask'"), ({"activity": torch.zeros(3, 2)}, "'activity'"),
    ):  # fmt: skip
        with pytest.raises(ResultError, match=said):
            Occlusion.load(made(**changes).save(tmp_path / "b.npz"))
