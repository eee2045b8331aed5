"""A typed language of pure functions on grids, and programs written in it."""
