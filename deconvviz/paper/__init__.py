"""Every figure and table of the paper, from one's own network and data. One module a figure; `pages.py` lists them."""
