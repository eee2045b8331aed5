"""Object-centric joint-embedding prediction: from a grid to the grid that its task makes of it."""
