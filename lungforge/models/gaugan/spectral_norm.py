"""Spectral normalisation: every convolution is divided by its largest singular value.

Miyato et al., arXiv 1802.05957. A step of training takes one step of power iteration, by ``iterate_once``,
and keeps its vectors u and v in the state dict; between two of them nothing changes, so every forward pass
of a step, in however many micro-batches, works with the same weights. Images are generated with ``folded``
weights, which are already divided.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

_ORIGINAL = ".parametrizations.weight.original"


def normalise_convolutions(module: nn.Module) -> None:
    """Put spectral normalisation on every convolution in a module."""
    for child in list(module.modules()):
        if isinstance(child, nn.Conv2d):
            spectral_norm(child)


@torch.no_grad()
def iterate_once(module: nn.Module) -> None:
    """Take a step of power iteration in every normalisation, and hold u and v until the next call."""
    for child in module.modules():
        if is_parametrized(child, "weight"):
            normalisation = child.get_submodule("parametrizations.weight.0")
            normalisation.train()
            _ = child.weight
            normalisation.eval()


@torch.no_grad()
def folded_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same module without spectral normalisation, that computes the same.

    A moving average must be of these weights. The average of the undivided ones would be divided by a
    largest singular value that u and v of another moment estimate. The average of divided weights has
    singular values of at most 1, as the norm is convex.
    """
    state: dict[str, Tensor] = {}
    for key, value in module.state_dict().items():
        if key.endswith(_ORIGINAL):
            name = key.removesuffix(_ORIGINAL)
            state[f"{name}.weight"] = _divided_weight(module.get_submodule(name))
        elif ".parametrizations." not in key:
            state[key] = value.detach().clone()
    return state


def _divided_weight(convolution: nn.Module) -> Tensor:
    """The weight that the convolution works with now, without a step of power iteration."""
    normalisation = convolution.get_submodule("parametrizations.weight.0")
    training = normalisation.training
    normalisation.eval()
    weight = convolution.weight
    normalisation.train(training)
    assert isinstance(weight, Tensor)
    return weight.detach()
