"""The packages to install: all of `deconvviz/`, and `models/` as `deconvviz.models` (see pyproject.toml)."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["deconvviz", "deconvviz.*"]), "deconvviz.models"])
