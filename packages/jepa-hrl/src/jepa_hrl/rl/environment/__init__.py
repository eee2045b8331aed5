"""The latent environment: problems, batched episodes and their gymnasium interface."""
