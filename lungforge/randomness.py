"""Random generators seeded by the identity of the item that they are used for.

An identity is the job's seed and the name of the item (a step, a series, a slice). So results do not depend
on the number of workers, the batch size or the order of arrival.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*identity: int | str) -> int:
    """Seed of an identity, from 0 to 2^63 - 1; different identities have unrelated seeds."""
    canonical = json.dumps(identity, separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big") >> 1


def numpy_generator(*identity: int | str) -> np.random.Generator:
    """NumPy generator seeded by an identity."""
    return np.random.default_rng(seed_of(*identity))


def torch_generator(*identity: int | str) -> "torch.Generator":
    """Torch generator on the CPU, seeded by an identity."""
    import torch  # the core does without it

    return torch.Generator().manual_seed(seed_of(*identity))
