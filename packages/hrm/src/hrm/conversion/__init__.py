"""Published weights to this project's checkpoints and back, and inference programs."""
