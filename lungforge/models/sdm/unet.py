"""The semantic U-Net: an encoder that sees only the noisy image, a decoder modulated by the map.

It is called in two steps, as the map stays the same while an image is sampled::

    conditioning = model.condition(one_hot(labels, classes))   # once an image
    output = model(x, timesteps, conditioning)                 # every step
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lungforge.errors import InputError
from lungforge.models.device_choices import autocast, fuses_norms, is_queue
from lungforge.models.device_choices import keep_bytes as default_keep_bytes
from lungforge.models.place import VALUES
from lungforge.models.sdm.blocks import (
    Attention,
    ResidualBlock,
    SpadeBlock,
    norm_activate,
    timestep_embedding,
    zero_init,
)
from lungforge.models.sdm.config import GROUPS, UNetConfig
from lungforge.models.spade import Modulation, SemanticMap, SpadeModulation


@dataclass(frozen=True)
class Conditioning:
    """What the network needs of a batch of maps.

    Attributes:
        semantic_map: The maps.
        modulations: The modulation of every normalisation in the order of the decoder, or None where it is
            computed anew at every call, because keeping it would not fit.
        place: What the network makes of the places of the images, [N, width of the time]; None where it takes
            none.
    """

    semantic_map: SemanticMap
    modulations: tuple[Modulation | None, ...]
    place: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the modulations hold."""
        return sum(modulation.nbytes for modulation in self.modulations if modulation is not None)


@dataclass(frozen=True)
class Features:
    """Output of the encoder: the last features, those of each block, and the time."""

    last: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor


class SemanticUNet(nn.Module):
    """The denoising network.

    Attributes:
        config: Its shape.
        checkpointing: Whether training computes each block a second time rather than keep its activations:
            much less memory for about a third more time, and the same result.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        widths, sizes, time_width = config.widths, config.sizes, 4 * config.base_channels
        last = len(widths) - 1
        self.time_embed = nn.Sequential(
            nn.Linear(config.base_channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )

        def attention(level: int) -> list[nn.Module]:
            return (
                [Attention(widths[level], config.head_channels)]
                if sizes[level] in config.attention_sizes
                else []
            )

        def spade(width: int, out_width: int, *, up: bool = False) -> SpadeBlock:
            return SpadeBlock(width, out_width, config.classes, time_width, config.dropout, up=up)

        width = widths[0]
        blocks: list[list[nn.Module]] = [[nn.Conv2d(config.image_channels, width, 3, padding=1)]]
        skips = [width]
        for level, out_width in enumerate(widths):
            for _ in range(config.residual_blocks):
                block = ResidualBlock(width, out_width, time_width, config.dropout)
                blocks.append([block, *attention(level)])
                skips.append(width := out_width)
            if level < last:
                blocks.append([ResidualBlock(width, width, time_width, config.dropout, down=True)])
                skips.append(width)
        self.input_blocks = nn.ModuleList(map(nn.ModuleList, blocks))

        self.middle_block = nn.ModuleList(
            [spade(width, width), Attention(width, config.head_channels), spade(width, width)]
        )

        blocks = []
        for level in reversed(range(len(widths))):
            for index in range(config.residual_blocks + 1):
                stage: list[nn.Module] = [spade(width + skips.pop(), widths[level]), *attention(level)]
                width = widths[level]
                if level and index == config.residual_blocks:
                    stage.append(spade(width, width, up=True))
                blocks.append(stage)
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, blocks))

        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, 2 * config.image_channels, 3, padding=1)
        )
        zero_init(self.out[2])
        if config.place:
            self.place_embed = nn.Sequential(
                nn.Linear(VALUES, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
            )
            zero_init(self.place_embed[2])
        self.to(memory_format=torch.channels_last)

    def compile_blocks(self, **options: Any) -> None:
        """Compile each block on its first call; the options are those of ``torch.compile``."""
        for block in self.modules():
            if isinstance(block, (ResidualBlock, SpadeBlock, Attention)):
                # Each by itself: blocks of one class share their code, of which only so many are compiled.
                block.compile(isolate_recompiles=True, **options)

    def condition(
        self, maps: Tensor, places: Tensor | None = None, keep_bytes: int | None = None
    ) -> Conditioning:
        """Compute all that the map and the place decide.

        Args:
            maps: One-hot maps [N, classes, H, W] as ``one_hot`` makes them; all zeros is the null map.
                A batch of one serves any number of images.
            places: Of the images, [N, VALUES]; None where they are not known.
            keep_bytes: Memory budget of the modulations; what suits the device when not given. What does not
                fit is computed at every call of the network instead; the result is the same.

        Raises:
            InputError: The maps have another class count or size than the network.
        """
        config = self.config
        expected = (config.classes, config.image_size, config.image_size)
        if tuple(maps.shape[1:]) != expected:
            raise InputError(
                f"the maps are {tuple(maps.shape[1:])} (classes, rows, columns); expected {expected}"
            )
        semantic_map = SemanticMap(maps.to(next(self.parameters()).dtype))
        place = self._place(places, maps)
        if torch.is_grad_enabled():
            modulations = tuple(norm.modulation(semantic_map, size) for norm, size in self._norms())
            return Conditioning(semantic_map, modulations, place)
        budget = default_keep_bytes(maps.device) if keep_bytes is None else keep_bytes
        kept: list[Modulation | None] = []
        for norm, size in self._norms():
            modulation = norm.modulation(semantic_map, size)
            fits = modulation.nbytes <= budget
            budget -= modulation.nbytes if fits else 0
            kept.append(modulation if fits else None)
        # What is left of the budget goes into values that need no gathering at every step.
        for index, compact in enumerate(kept):
            if compact is not None and compact.whole_nbytes - compact.nbytes <= budget:
                budget -= compact.whole_nbytes - compact.nbytes
                kept[index] = compact.whole()
        return Conditioning(semantic_map, tuple(kept), place)

    def _place(self, places: Tensor | None, maps: Tensor) -> Tensor | None:
        if not self.config.place:
            return None
        known = maps.new_zeros(1, VALUES) if places is None else places.to(maps.dtype)
        embedded: Tensor = self.place_embed(known)
        return embedded

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning | Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise and the variance's interpolation.

        Args:
            x: Noisy images [N, C, H, W].
            timesteps: Steps of the full process [N].
            conditioning: What ``condition`` gave; or the one-hot maps themselves, as training passes them.
            places: Beside maps: of the images, [N, VALUES].

        Returns:
            [N, 2C, H, W]: noise, then v in about [-1, 1].

        Raises:
            InputError: The images or maps have another shape than the network's.
        """
        if isinstance(conditioning, Tensor):
            conditioning = self.condition(conditioning, places)
        return self.decode(self.encode(x, timesteps, conditioning.place), conditioning)

    def encode(self, x: Tensor, timesteps: Tensor, place: Tensor | None = None) -> Features:
        """The part that the map has no influence on: guidance runs it once for both of its passes.

        Args:
            x: Noisy images [N, C, H, W].
            timesteps: Steps of the full process [N].
            place: That of a ``Conditioning``.
        """
        config = self.config
        expected = (config.image_channels, config.image_size, config.image_size)
        if tuple(x.shape[1:]) != expected:
            raise InputError(
                f"the images are {tuple(x.shape[1:])} (channels, rows, columns); expected {expected}"
            )
        h = x.contiguous(memory_format=torch.channels_last)
        time = self.time_embed(timestep_embedding(timesteps, config.base_channels).to(x.dtype))
        if place is not None:
            time = time + place
        skips: list[Tensor] = []
        for stage in self.input_blocks:
            for block in _blocks(stage):
                h = self._run(block, h, time) if isinstance(block, ResidualBlock) else self._run(block, h)
            if not skips and is_queue(h.device):
                # An image of one channel has no memory layout that the first convolution could take over.
                h = h.contiguous(memory_format=torch.channels_last)
            skips.append(h)
        return Features(h, tuple(skips), time)

    def decode(self, features: Features, conditioning: Conditioning) -> Tensor:
        """The part that the map decides: network output [N, 2C, H, W]."""
        h, skips = features.last, list(features.skips)
        modulations = iter(self._modulations(conditioning))
        for block in self.middle_block:
            h = self._run_decoder(block, h, features.time, modulations)
        for stage in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            for block in _blocks(stage):
                h = self._run_decoder(block, h, features.time, modulations)
        if not fuses_norms(h.device):
            return self.out(h)
        # In float32 whatever the blocks compute in: rounded to bfloat16, what noise prediction says at the
        # noisiest times would be magnified to a fifth of the image's range.
        norm, _, convolution = self.out
        h = norm_activate(h, norm)
        with autocast(h.device, "float32"):
            return convolution(h.float())

    def _modulations(self, conditioning: Conditioning) -> Iterator[Modulation]:
        for (norm, size), kept in zip(self._norms(), conditioning.modulations, strict=True):
            yield norm.modulation(conditioning.semantic_map, size) if kept is None else kept

    def _run_decoder(
        self, block: nn.Module, h: Tensor, time: Tensor, modulations: Iterator[Modulation]
    ) -> Tensor:
        if isinstance(block, SpadeBlock):
            return self._run(block, h, time, next(modulations), next(modulations))
        return self._run(block, h)

    def _run(self, block: nn.Module, *inputs: Tensor | Modulation) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _norms(self) -> list[tuple[SpadeModulation, int]]:
        """The modulated normalisations in the order of the decoder, with the side of what they normalise."""
        size = self.config.sizes[-1]
        norms = []
        for block in [*self.middle_block.modules(), *self.output_blocks.modules()]:
            if isinstance(block, SpadeBlock):
                norms.append((block.in_norm, size))
                size *= 2 if block.up else 1
                norms.append((block.out_norm, size))
        return norms


def _blocks(stage: nn.Module) -> Iterable[nn.Module]:
    assert isinstance(stage, nn.ModuleList)
    return stage
