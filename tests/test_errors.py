"""Warnings, heard by one thread alone."""

from __future__ import annotations

import threading
import warnings

import pytest

from deconvviz.errors import DeconvvizWarning, warn, warnings_heard


def test_a_warning_goes_to_who_listens_or_to_python() -> None:
    with warnings_heard() as heard, warnings.catch_warnings():
        warnings.simplefilter("error")
        warn("one")
        with warnings_heard() as inner:
            warn("two")
        warn("three")
    assert (heard, inner) == (["one", "three"], ["two"])
    with pytest.warns(DeconvvizWarning, match="four") as caught:
        warn("four", stacklevel=1)
    assert caught[0].filename == __file__


def test_other_threads_do_not_listen() -> None:
    said: list[str] = []

    def other() -> None:
        with warnings_heard() as heard:
            warn("there")
        said.extend(heard)

    with warnings_heard() as heard:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        warn("here")
    assert (heard, said) == (["here"], ["there"])
