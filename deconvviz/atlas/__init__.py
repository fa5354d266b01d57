"""The atlas: a static site to browse a scanned network, from `file://` and without a server. See `build`."""

from deconvviz.atlas.make import Site, build
from deconvviz.atlas.plates import Source

__all__ = ["Site", "Source", "build"]
