"""Synthetic tasks: random programs, and input grids on which their rules are visible."""
