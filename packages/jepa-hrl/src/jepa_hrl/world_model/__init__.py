"""The world model: a program-conditioned JEPA that predicts in latents what programs make of grids."""
