"""Communities of weighted graphs: a block model with description length, and Leiden beside it."""
