"""Where networks come from: one module for each kind of name that `load` takes.

Each has `find(wanted) -> Found`, and `stored(name) -> [(weights, where, on disk)]` where there is a list of weights.
"""
