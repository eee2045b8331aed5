"""What programs make of grids, foreseen in latents."""
