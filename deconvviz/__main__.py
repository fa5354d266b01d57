"""`python -m deconvviz`."""

from __future__ import annotations

from deconvviz.cli import main

if __name__ == "__main__":
    main()
