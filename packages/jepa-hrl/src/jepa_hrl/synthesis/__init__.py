"""Synthetic tasks: programs drawn at random, and grids on which their rules show."""
