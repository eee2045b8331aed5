"""Counter-based randomness: what is drawn at a step depends on (seed, stream, step) alone.

Nothing carries generator state, so a resumed run needs none saved and every rank can draw what it needs.
"""

import hashlib

import numpy as np


def generator_for(seed: int, stream: str, step: int) -> np.random.Generator:
    """An independent generator for one purpose at one step.

    Args:
        seed: the run's seed, 0 .. 2^63 - 1.
        stream: what the numbers are for, such as "sampler"; each name is a stream of its own.
        step: 0 or more.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); the stream is part of the key,
        the step is the counter's highest word, so no two draws share a block.
    """
    name = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(key=[seed, name], counter=[0, 0, 0, step]))


def seed_for(seed: int, stream: str, step: int) -> int:
    """A 63-bit seed from the same counter, for libraries that want one."""
    return int(generator_for(seed, stream, step).integers(2**63))
