"""The engine: one recording of a forward pass, read backwards, forwards on windows, and as geometry."""
