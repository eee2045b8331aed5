"""The active reasoner: a latent environment for gymnasium, policies that learn in it, and search that they guide."""

import gymnasium

gymnasium.register(
    id="arc/LatentReasoning-v0",
    entry_point="jepa_hrl.rl.environment.registration:make_env",
    vector_entry_point="jepa_hrl.rl.environment.registration:make_vector_env",
)
