"""One package an analysis: how it is computed, its result, its figure."""
