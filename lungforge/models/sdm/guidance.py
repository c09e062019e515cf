"""A network with its conditioning and guidance, and the denoiser that the samplers call."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lungforge.models.device_choices import guides_in_one_batch
from lungforge.models.sdm.diffusion import Denoiser, Estimate, Network, NoiseSchedule
from lungforge.models.sdm.objectives import Objective
from lungforge.models.sdm.unet import Conditioning, Features, SemanticUNet
from lungforge.models.spade import Modulation, SemanticMap


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, and the levels of noise where it acts.

    At high noise guidance narrows what is sampled, at low noise it changes nothing but contrast: restricting
    it to a middle interval gives better images for less work (Kynkäänniemi et al., arXiv 2404.07724).

    Attributes:
        scale: 1 is the plain conditional model.
        low: Guidance acts above this σ ...
        high: ... and up to this one.
    """

    scale: float = 1.0
    low: float = 0.0
    high: float = float("inf")

    def acts_at(self, sigma: float) -> bool:
        """Whether it changes anything at a level of noise."""
        return self.scale != 1 and self.low < sigma <= self.high


def null_map(model: SemanticUNet) -> Tensor:
    """The map that says nothing, zeros [1, classes, H, W]: its conditioning serves every batch of a job."""
    config = model.config
    weight = next(model.parameters())
    size = config.image_size
    return torch.zeros(1, config.classes, size, size, dtype=weight.dtype, device=weight.device)


def guided_network(
    model: SemanticUNet, conditioning: Conditioning, null: Conditioning | None = None, scale: float = 1.0
) -> Network:
    """The network under classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    The image channels of the output are ``null + scale * (conditional - null)``; those of the variance are
    the conditional pass's. The image is linear in them, so it is guided alike under every objective. The
    encoder, which never sees the map, runs once for both passes. A scale of 1 is the conditional model. On a
    GPU both passes of the decoder are one batch.

    Args:
        model: The network.
        conditioning: Of the images' maps.
        null: Conditioning of ``null_map``; computed here if needed and not given.
        scale: Of guidance.
    """
    if scale == 1:
        return lambda x, times: model(x, times, conditioning)
    nothing = model.condition(null_map(model)) if null is None else null
    channels = model.config.image_channels
    if guides_in_one_batch(next(model.parameters()).device):
        both = in_one_batch(conditioning, nothing)

        def output_of_both(x: Tensor, times: Tensor) -> Tensor:
            features = model.encode(x, times, conditioning.place)
            guided, without = model.decode(twice(features), both).chunk(2)
            image = torch.lerp(without[:, :channels], guided[:, :channels], scale)
            return torch.cat([image, guided[:, channels:]], dim=1)

        return output_of_both

    def output(x: Tensor, times: Tensor) -> Tensor:
        features = model.encode(x, times, conditioning.place)
        guided = model.decode(features, conditioning)
        image, without = guided[:, :channels], model.decode(features, nothing)[:, :channels]
        return torch.cat([without + scale * (image - without), guided[:, channels:]], dim=1)

    return output


def in_one_batch(conditioning: Conditioning, null: Conditioning) -> Conditioning:
    """The conditioning of a batch of images, each followed, a batch later, by itself without its map.

    Args:
        conditioning: Of the maps, as many as there are images.
        null: Of ``null_map``.
    """
    count = len(conditioning.semantic_map.maps)

    def joined(some: Tensor, nothing: Tensor) -> Tensor:
        repeated = nothing.expand(count, *nothing.shape[1:])
        return torch.cat([some, repeated]).contiguous(memory_format=torch.channels_last)

    def modulation(some: Modulation | None, nothing: Modulation | None) -> Modulation | None:
        if some is None or nothing is None:
            return None
        some, nothing = some.whole(), nothing.whole()
        return Modulation(joined(some.scale, nothing.scale), joined(some.shift, nothing.shift))

    pairs = zip(conditioning.modulations, null.modulations, strict=True)
    return Conditioning(
        SemanticMap(joined(conditioning.semantic_map.maps, null.semantic_map.maps)),
        tuple(modulation(*pair) for pair in pairs),
    )


def twice(features: Features) -> Features:
    """The same features for the first and for the second half of a batch."""
    skips = tuple(torch.cat([skip, skip]) for skip in features.skips)
    return Features(torch.cat([features.last] * 2), skips, torch.cat([features.time] * 2))


def guided_denoiser(
    model: SemanticUNet,
    objective: Objective,
    schedule: NoiseSchedule,
    conditioning: Conditioning,
    null: Conditioning | None = None,
    guidance: Guidance = Guidance(),
) -> Denoiser:
    """The denoiser of a model for the steps of a schedule; arguments as for ``guided_network``."""
    plain = guided_network(model, conditioning)
    guided = guided_network(model, conditioning, null, guidance.scale)
    acts = [guidance.acts_at(sigma) for sigma in schedule.sigmas.tolist()]

    def denoise(x_t: Tensor, index: int) -> Estimate:
        return objective.estimate(guided if acts[index] else plain, schedule, x_t, index)

    return denoise
