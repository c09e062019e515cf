"""What a step of a semantic U-Net costs a GPU: parameters, arithmetic and memory, counted from its shape.

Without PyTorch, so that a job can say it before it starts. The counts follow the blocks as
``lungforge.models.sdm.unet`` builds them, with SPADE's convolutions at every pixel, as a GPU does them.
"""

from dataclasses import dataclass
from typing import Final

from lungforge.models.cost import Cost
from lungforge.models.place import VALUES
from lungforge.models.sdm.config import UNetConfig

#: Width of SPADE's hidden layer; ``lungforge.models.spade`` has it too, and needs PyTorch.
_HIDDEN: Final = 128
#: Bytes of a kept activation in bfloat16.
_BYTES: Final = 2


@dataclass
class _Count:
    """A running sum: parameters, operations of a forward image, and values kept for its gradient."""

    parameters: int = 0
    flops: int = 0
    kept: int = 0

    def convolution(self, width: int, out_width: int, side: int, taps: int = 9) -> None:
        self.parameters += taps * width * out_width + out_width
        self.flops += 2 * taps * width * out_width * side**2

    def norm(self, width: int, side: int, *, modulated: bool = False) -> None:
        """A fused norm keeps its input, its result, and scale and shift where they differ by pixel."""
        self.kept += (4 if modulated else 2) * width * side**2
        self.parameters += 0 if modulated else 2 * width

    def modulation(self, width: int, classes: int, side: int) -> None:
        self.convolution(classes, _HIDDEN, side)
        self.convolution(_HIDDEN, 2 * width, side)
        self.kept += (_HIDDEN + classes) * side**2

    def linear(self, width: int, out_width: int) -> None:
        self.parameters += width * out_width + out_width
        self.flops += 2 * width * out_width

    def residual(self, width: int, out_width: int, time: int, side: int, *, down: bool = False) -> None:
        self.norm(width, side)
        after = side // 2 if down else side
        self.kept += width * after**2 if down else 0
        self.convolution(width, out_width, after)
        self.linear(time, 2 * out_width)
        self.norm(out_width, after)
        self.convolution(out_width, out_width, after)
        if width != out_width:
            self.convolution(width, out_width, after, 1)

    def spade(
        self, width: int, out_width: int, classes: int, time: int, side: int, *, up: bool = False
    ) -> None:
        self.modulation(width, classes, side)
        self.norm(width, side, modulated=True)
        self.convolution(width, out_width, side)
        # Enlarging and convolving is one transposed convolution of 16 taps.
        self.flops += 2 * 7 * width * out_width * side**2 if up else 0
        side *= 2 if up else 1
        self.linear(time, 2 * out_width)
        self.modulation(out_width, classes, side)
        self.norm(out_width, side, modulated=True)
        self.convolution(out_width, out_width, side)
        if width != out_width:
            self.convolution(width, out_width, side, 1)

    def attention(self, width: int, side: int) -> None:
        self.norm(width, side)
        self.convolution(width, 3 * width, side, 1)
        self.convolution(width, width, side, 1)
        self.flops += 4 * side**4 * width
        self.kept += 4 * width * side**2


def cost_of(config: UNetConfig) -> Cost:
    """The cost of a network in bfloat16, an image at a time."""
    count, time, sizes = _Count(), 4 * config.base_channels, config.sizes
    count.linear(config.base_channels, time)
    count.linear(time, time)
    if config.place:
        count.linear(VALUES, time)
        count.linear(time, time)
    width = config.widths[0]
    count.convolution(config.image_channels, width, config.image_size)
    skips = [width]
    for level, (out_width, side) in enumerate(zip(config.widths, sizes, strict=True)):
        for _ in range(config.residual_blocks):
            count.residual(width, out_width, time, side)
            _attend(count, config, out_width, side)
            skips.append(width := out_width)
        if level < len(sizes) - 1:
            count.residual(width, width, time, side, down=True)
            skips.append(width)
    count.spade(width, width, config.classes, time, sizes[-1])
    count.attention(width, sizes[-1])
    count.spade(width, width, config.classes, time, sizes[-1])
    for level, side in reversed(list(enumerate(sizes))):
        for index in range(config.residual_blocks + 1):
            count.spade(width + skips.pop(), config.widths[level], config.classes, time, side)
            width = config.widths[level]
            _attend(count, config, width, side)
            if level and index == config.residual_blocks:
                count.spade(width, width, config.classes, time, side, up=True)
    count.norm(width, config.image_size)
    # The last layer is float32: its input counts twice.
    count.kept += width * config.image_size**2
    count.convolution(width, 2 * config.image_channels, config.image_size)
    return Cost(count.parameters, count.flops, _BYTES * count.kept)


def _attend(count: _Count, config: UNetConfig, width: int, side: int) -> None:
    if side in config.attention_sizes:
        count.attention(width, side)
