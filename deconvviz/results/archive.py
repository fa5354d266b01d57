"""Arrays in one npz file: written with a SHA-256 of their content, and believed only as far as they can be checked."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deconvviz.errors import ResultError

SHA256 = "sha256"
# What a file may come to in memory, in bytes, unless more is asked for: one of 3 MB can hold 3.9 GB.
MOST = 2**31
_KINDS = "biufU"  # bool, whole numbers, floats, text


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz file of these arrays with their SHA-256; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{SHA256: np.array(digest(arrays))})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_arrays(path: str | os.PathLike[str], most: int = MOST) -> dict[str, NDArray[Any]]:
    """The arrays of a file of `write_arrays`; nothing is unpickled, and nothing inflated before its size is known.

    A file without a SHA-256, as earlier versions wrote them, is taken as it is. Raises `ResultError`, and whatever
    damage makes of a zip file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > most:
            raise ResultError(f"{path} holds {total:,} bytes once inflated; allowed: {most:,} (most=… allows more)")
        if len({member.filename for member in members}) != len(members):
            raise ResultError(f"{path} holds two arrays of one name")
        arrays = {}
        for member in members:
            with archive.open(member) as stream:
                arrays[member.filename.removesuffix(".npy")] = _array(stream, member.file_size, path)
    told = arrays.pop(SHA256, None)
    if told is not None and str(told) != digest(arrays):
        raise ResultError(f"{path} is damaged: its SHA-256 is not that of its content")
    return {**arrays, SHA256: told} if told is not None else arrays


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}\0{array.dtype.str}\0{arrays[name].shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _array(stream: IO[bytes], size: int, path: str | os.PathLike[str]) -> NDArray[Any]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise ResultError(f"{path} holds an array of {dtype}; allowed: numbers and text")
    wanted = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or wanted > size:
        raise ResultError(f"{path} is damaged: an array of shape {shape} in {size:,} bytes")
    data = stream.read()  # at most what the archive said, which has been added up
    if len(data) != wanted:
        raise ResultError(f"{path} is damaged: an array of shape {shape} has {len(data):,} bytes, not {wanted:,}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="))
