"""Objects of grids as tokens."""
