"""Seeds depend on the identity, all of it, and on nothing else."""

import torch

from lungforge.randomness import numpy_generator, seed_of, torch_generator


def test_seeds_stay_what_they_are() -> None:
    # Written down once: a change would change every model and every sample.
    assert seed_of(0, "sample", 1) == 6128025189844195072
    assert seed_of() == 2858069222894195974


def test_different_identities_give_different_seeds() -> None:
    identities = [(0, 1), (0, "1"), (1, 0), (0, 1, 0), ("0", "1"), (0, 11)]
    assert len({seed_of(*identity) for identity in identities}) == len(identities)


def test_generators_of_one_identity_agree() -> None:
    sampled = [torch.randn(3, generator=torch_generator(7, "a")) for _ in range(2)]
    assert torch.equal(*sampled)
    assert not torch.equal(sampled[0], torch.randn(3, generator=torch_generator(8, "a")))
    assert numpy_generator(7, "a").random() == numpy_generator(7, "a").random()
