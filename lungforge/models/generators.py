"""Drawing CT slices from maps with a trained network.

An image depends on its identity, its map, and the settings, never on who draws it or in which order. The
batch that it is drawn in can change the rounding of its numbers, and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from lungforge.ct.window import hu_to_unit, unit_to_hu
from lungforge.errors import InputError
from lungforge.models.gaugan import checkpoint as gan_checkpoint
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator
from lungforge.models.gaugan.generator import draw as draw_once
from lungforge.models.sdm import checkpoint as sdm_checkpoint
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.diffusion import Denoiser, Schedule
from lungforge.models.sdm.guidance import guided_denoiser, null_map
from lungforge.models.sdm.inpainting import sample_inpainted
from lungforge.models.sdm.samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot
from lungforge.randomness import torch_generator

#: Names of the samplers: ancestral with learned variance, DDIM, DPM-Solver++(2M).
SamplerName = Literal["ancestral", "ddim", "dpmpp"]

#: What names an image: the seed and whatever tells it from the others.
Identity = tuple[int | str, ...]


class Painter(Protocol):
    """A network with all that is computed once a job."""

    @property
    def sampler(self) -> str:
        """What draws, as a sample's row names it."""

    @property
    def steps(self) -> int:
        """Evaluations of the network along one image."""

    @property
    def guidance(self) -> float:
        """Scale of classifier-free guidance; 1 where there is none."""

    def draw(self, labels: np.ndarray, identities: Sequence[Identity]) -> np.ndarray:
        """Draw an image for each map.

        Args:
            labels: Classes, uint8 [N, H, W].
            identities: Of the images; the noise of each comes from a generator of its own.

        Returns:
            HU, int16 [N, H, W].

        Raises:
            InputError: A map has an unknown class, or another size than the network.
        """


class DiffusionPainter:
    """Draws with a semantic diffusion model.

    Args:
        network: In evaluation mode, on its device.
        sampler: Which sampler.
        steps: Steps of the sampler, spread evenly over those of training; for dpmpp evenly in the logarithm
            of the signal-to-noise ratio, which its order of convergence is stated in.
        guidance: Scale of classifier-free guidance; 1 is the conditional model.
    """

    def __init__(self, network: SemanticUNet, *, sampler: SamplerName, steps: int, guidance: float) -> None:
        self.network = network
        self.sampler: SamplerName = sampler
        self.steps = steps
        self.guidance = guidance
        self.schedule = Schedule.linear().respace(f"snr{steps}" if sampler == "dpmpp" else str(steps))
        with torch.inference_mode():
            self._null = network.condition(null_map(network)) if guidance != 1 else None

    @torch.inference_mode()
    def draw(self, labels: np.ndarray, identities: Sequence[Identity]) -> np.ndarray:
        """Draw an image for each map; see ``Painter``."""
        denoiser, noise = self._begin(labels, identities)
        x_T = noise()
        match self.sampler:
            case "ancestral":
                images = sample_ancestral(denoiser, x_T, self.schedule, noise)
            case "ddim":
                images = sample_ddim(denoiser, x_T, self.schedule)
            case "dpmpp":
                images = sample_dpmpp_2m(denoiser, x_T, self.schedule)
        return _to_hu(images)

    @torch.inference_mode()
    def inpaint(
        self, labels: np.ndarray, identities: Sequence[Identity], real: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        """Draw a part of each image, and leave the rest of it real.

        Ancestral sampling with resampling; its steps are even in the logarithm of the signal-to-noise ratio.

        Args:
            labels: Classes of the whole images, uint8 [N, H, W].
            identities: Of the images.
            real: HU, int16 [N, H, W].
            mask: bool [N, H, W], True where an image is drawn.

        Returns:
            HU, int16 [N, H, W]; outside the mask equal to ``real``, also where that is outside the window.

        Raises:
            InputError: A map has an unknown class, or another size than the network.
        """
        denoiser, noise = self._begin(labels, identities)
        x_T = noise()
        known = torch.from_numpy(hu_to_unit(real))[:, None].to(x_T.device).expand(x_T.shape)
        images = sample_inpainted(
            denoiser,
            x_T,
            Schedule.linear().respace(f"snr{self.steps}"),
            noise,
            known,
            torch.from_numpy(mask)[:, None].to(x_T.device),
        )
        return np.where(mask, _to_hu(images), real)

    def _begin(self, labels: np.ndarray, identities: Sequence[Identity]) -> tuple[Denoiser, "_Noise"]:
        config = self.network.config
        device = next(self.network.parameters()).device
        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        denoiser = guided_denoiser(self.network, self.network.condition(maps), self._null, self.guidance)
        shape = (config.image_channels, config.image_size, config.image_size)
        return denoiser, _Noise(identities, shape, device)


class GauGANPainter:
    """Draws with a GauGAN, in one pass.

    Args:
        generator: Folded, in evaluation mode, on its device.
    """

    sampler = "gaugan"
    steps = 1
    guidance = 1.0

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @torch.inference_mode()
    def draw(self, labels: np.ndarray, identities: Sequence[Identity]) -> np.ndarray:
        """Draw an image for each map; see ``Painter``."""
        config = self.generator.config
        device = next(self.generator.parameters()).device
        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        noise = _Noise(identities, (config.latent_channels,), device)
        return _to_hu(draw_once(self.generator, maps, noise() if config.latent_channels else None))


def network_config(document: Mapping[str, Any]) -> UNetConfig | GauGANConfig:
    """The network that a model's ``config.json`` describes.

    Raises:
        InputError: It describes no kind of network that is known here.
    """
    readers: dict[str, Callable[[Mapping[str, Any]], UNetConfig | GauGANConfig]] = {
        sdm_checkpoint.MODEL_NAME: sdm_checkpoint.from_document,
        gan_checkpoint.MODEL_NAME: gan_checkpoint.from_document,
    }
    reader = readers.get(str(document.get("model")))
    if reader is None:
        raise InputError(
            f"config.json describes the model {document.get('model')!r}; known are {', '.join(readers)}"
        )
    return reader(document)


def load_painter(
    data: bytes,
    document: Mapping[str, Any],
    device: torch.device,
    *,
    classes: int,
    sampler: SamplerName,
    steps: int,
    guidance: float,
) -> Painter:
    """What draws with a model, of whichever kind it is.

    Args:
        data: Bytes of its safetensors file.
        document: Its ``config.json``.
        device: Where to draw.
        classes: Class count of the maps; checked.
        sampler: As for ``DiffusionPainter``, like ``steps`` and ``guidance``; a GauGAN has no use for them.
        steps: See there.
        guidance: See there.

    Raises:
        InputError: The bytes are no safetensors, or the weights do not fit the document or the classes.
    """
    if isinstance(network_config(document), GauGANConfig):
        generator = gan_checkpoint.from_safetensors(data, document, classes=classes)
        return GauGANPainter(generator.to(device))
    network = sdm_checkpoint.from_safetensors(data, document, classes=classes)
    return DiffusionPainter(network.to(device), sampler=sampler, steps=steps, guidance=guidance)


class _Noise:
    """Standard normal noise, image by image from generators of their own.

    Drawn on the CPU, so that every kind of device starts from the same numbers.
    """

    def __init__(self, identities: Sequence[Identity], shape: tuple[int, ...], device: torch.device) -> None:
        self._generators = [torch_generator(*identity) for identity in identities]
        self._shape, self._device = shape, device

    def __call__(self, step: int | None = None) -> Tensor:
        drawn = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self._device)


def _to_hu(images: Tensor) -> np.ndarray:
    # A network of three channels was trained on three equal ones.
    return unit_to_hu(images.float().mean(1).cpu().numpy())
