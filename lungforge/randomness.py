"""Random numbers that depend on what they are for, never on who draws them or when.

Every generator is seeded from an identity: the job's seed and what names the item (a step, a series, a
slice). So results do not change with the number of workers, the batch size or the order of arrival.
"""

import hashlib
import json

import numpy as np
import torch


def seed_of(*identity: int | str) -> int:
    """A seed from 0 to 2^63 - 1 for an identity; different identities have unrelated seeds."""
    canonical = json.dumps(identity, separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big") >> 1


def numpy_generator(*identity: int | str) -> np.random.Generator:
    """A NumPy generator of the identity's own."""
    return np.random.default_rng(seed_of(*identity))


def torch_generator(*identity: int | str) -> torch.Generator:
    """A torch generator, on the CPU, of the identity's own."""
    return torch.Generator().manual_seed(seed_of(*identity))
