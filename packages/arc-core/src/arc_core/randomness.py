"""Counter-based randomness: random numbers are a function of (seed, stream, step) alone.

There is no generator state to save for a resumed run, and every rank can draw what it needs.
"""

import hashlib

import numpy as np


def generator_for(seed: int, stream: str, step: int) -> np.random.Generator:
    """Returns an independent generator for one purpose at one step.

    Args:
        seed: seed of the run, 0 .. 2^63 - 1.
        stream: purpose of the numbers, such as "sampler"; each name gives a stream of its own.
        step: step, epoch or other counter, 0 or more.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); the stream is part of the key,
        the step is the counter's highest word, so no two draws share a block.
    """
    name = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(key=[seed, name], counter=[0, 0, 0, step]))


def seed_for(seed: int, stream: str, step: int) -> int:
    """Returns a 63-bit seed for libraries that take one instead of a generator.

    Args:
        seed, stream, step: as for `generator_for`.
    """
    return int(generator_for(seed, stream, step).integers(2**63))
