"""The atlas: a static site to browse a scanned network, from `file://` and without a server. See `build`."""

from deconvviz.atlas.linked import LinkedSite
from deconvviz.atlas.make import Site, build, build_comparison
from deconvviz.atlas.plates import Source
from deconvviz.atlas.serve import SiteServer

__all__ = ["LinkedSite", "Site", "SiteServer", "Source", "build", "build_comparison"]
