"""The network, live: a page on one's own machine, and the server behind it."""

from deconvviz.explorer.handle import Explorer, explore

__all__ = ["Explorer", "explore"]
