"""Spatially adaptive normalisation: a semantic map decides scale and shift at every pixel.

SPADE (Park et al., arXiv 1903.07291): two convolutions over the map give γ and β, and a normalised
feature becomes ``x * (1 + γ) + β``. Only the map decides γ and β, and at a pixel only the 5x5
neighbourhood of class ids in it. A batch of maps holds few distinct neighbourhoods, so the convolutions
are done once for each of those and gathered: the same values and gradients for a tenth of the work.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.errors import InputError
from lungforge.models import device_choices
from lungforge.models.device_choices import finds_neighbourhoods

#: Width of the layer between the map and γ, β.
HIDDEN = 128
#: Share of distinct 3x3 windows among the pixels above which plain convolutions are quicker.
DENSE_SHARE = 0.75
#: The id of every pixel of a map that is hidden from the network: of no class.
HIDDEN_ID = 255


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """A channel a class: [N, H, W] integer ids to float32 [N, classes, H, W].

    Raises:
        InputError: An id is not in 0 .. classes - 1.
    """
    labels = labels.long()
    if labels.numel():
        require_classes(int(labels.min()), int(labels.max()), classes)
    return F.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def require_classes(lowest: int, highest: int, classes: int) -> None:
    """Raise ``InputError`` where the ids of a map are not all in 0 .. classes - 1."""
    if not 0 <= lowest <= highest < classes:
        raise InputError(
            f"the map holds ids from {lowest} to {highest}; the network knows the classes 0 to {classes - 1}"
        )


def one_hot_or_hidden(labels: Tensor, classes: int) -> Tensor:
    """The same of ids that are known to be right, without asking the device; zeros for ``HIDDEN_ID``."""
    known = torch.arange(classes, dtype=labels.dtype, device=labels.device)
    return labels[..., None].eq(known).permute(0, 3, 1, 2).float()


@dataclass(frozen=True)
class RowSums:
    """Which rows of a table to add up for each row of the result.

    Attributes:
        members: Rows of the table, int64 [results, members of each].
        rows: How many rows the table has.
    """

    members: Tensor
    rows: int

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """The results that each row of the table is in: all of them row after row, and where each begins."""
        flat = self.members.flatten()
        order = torch.argsort(flat, stable=True)
        ends = torch.bincount(flat, minlength=self.rows).cumsum(0)
        return order // self.members.shape[1], F.pad(ends[:-1], (1, 0))

    def __call__(self, table: Tensor) -> Tensor:
        """Add up rows of ``table`` [rows, C]: [results, C]; exact and deterministic, backward as well."""
        return _SumRows.apply(table, self)


class _SumRows(torch.autograd.Function):
    """The gradient gathers as well, by the transposed lists, where ``index_add`` would scatter."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, sums: RowSums) -> Tensor:
        ctx.sums = sums
        if sums.members.shape[1] == 1:
            return table.index_select(0, sums.members.flatten())
        return F.embedding_bag(sums.members, table, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        order, starts = ctx.sums.transposed
        return F.embedding_bag(order, gradients[0].contiguous(), starts, mode="sum"), None


@dataclass(frozen=True)
class Neighbourhoods:
    """The distinct 5x5 neighbourhoods of a batch of maps.

    The hidden layer at a pixel depends on the 3x3 window around it; γ and β on the 3x3 windows of hidden
    pixels. So there are two tables, and the second adds up nine entries of the first, one for each tap of
    the second convolution.

    Attributes:
        windows: One-hot 3x3 windows, float [V, classes * 9], as a convolution's weight is laid out.
        taps: For each of U neighbourhoods, its nine rows of a table [(V + 1) * 9, C] of (window, tap); window
            V stands for a pixel outside the picture, where the second convolution sees zeros and not
            ``relu(bias)``.
        pixels: For each pixel of the batch its neighbourhood.
        shape: (N, H, W).
    """

    windows: Tensor
    taps: RowSums
    pixels: RowSums
    shape: tuple[int, ...]


def find_neighbourhoods(maps: Tensor) -> Neighbourhoods | None:
    """The distinct neighbourhoods of one-hot or all-zero maps [N, classes, H, W].

    Returns:
        The tables, or None where plain convolutions are quicker or the maps are no ids.
    """
    classes = maps.shape[1]
    present = maps.ne(0)
    if not torch.equal(maps.eq(1), present) or int(present.sum(1).max()) > 1:
        return None
    # Id 0 is the null map's pixel and, to the first convolution, the outside as well.
    ids = torch.where(present.any(1), present.to(torch.uint8).argmax(1) + 1, 0)
    window, first = _distinct_windows(ids, outside=0)
    if len(first) > DENSE_SHARE * window.numel():
        return None
    neighbourhood, second = _distinct_windows(window, outside=len(first))
    windows = F.one_hot(first, classes + 1)[..., 1:].to(maps.dtype)  # [V, 9, classes]
    return Neighbourhoods(
        windows.transpose(1, 2).flatten(1),
        RowSums(second * 9 + torch.arange(9, device=maps.device), 9 * (len(first) + 1)),
        RowSums(neighbourhood.flatten()[:, None], len(second)),
        tuple(ids.shape),
    )


def _distinct_windows(ids: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """Number the distinct 3x3 windows of ids [N, H, W].

    Returns:
        The window of every pixel [N, H, W], and the nine ids of every window [windows, 9].
    """
    _, height, width = ids.shape
    padded = F.pad(ids, (1, 1, 1, 1), value=outside)
    base = int(padded.max()) + 1
    rows = [padded[:, :, shift : shift + width] for shift in range(3)]
    triple = (rows[0] * base + rows[1]) * base + rows[2]
    if base > 128:  # three triples of ids must fit into 63 bits
        triple = torch.unique(triple, return_inverse=True)[1]
    base = int(triple.max()) + 1
    rows = [triple[:, shift : shift + height] for shift in range(3)]
    codes, index = torch.unique((rows[0] * base + rows[1]) * base + rows[2], return_inverse=True)
    # Any pixel of a window can stand for it, as all of them have the same nine ids.
    pixels = torch.arange(index.numel(), device=ids.device)
    pixel = torch.empty(len(codes), dtype=torch.int64, device=ids.device).scatter_(0, index.flatten(), pixels)
    corner = (pixel // (height * width)) * (height + 2) * (width + 2)
    corner = corner + (pixel // width % height) * (width + 2) + pixel % width
    shifts = torch.tensor(
        [row * (width + 2) + column for row in range(3) for column in range(3)], device=ids.device
    )
    return index, padded.flatten()[corner[:, None] + shifts]


class SemanticMap:
    """A batch of maps at every resolution that is asked for.

    Args:
        maps: One-hot float maps [N, classes, H, W]; all zeros is the null map.
    """

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self._levels: dict[int, tuple[Tensor, Neighbourhoods | None]] = {}

    def at(self, size: int) -> tuple[Tensor, Neighbourhoods | None]:
        """The maps shrunk to ``size`` rows by nearest neighbour, and their distinct neighbourhoods."""
        if size not in self._levels:
            width = self.maps.shape[3] * size // self.maps.shape[2]
            maps = F.interpolate(self.maps, size=(size, width), mode="nearest")
            with torch.no_grad():
                found = find_neighbourhoods(maps) if finds_neighbourhoods(maps.device) else None
                self._levels[size] = maps, found
        return self._levels[size]


@dataclass(frozen=True)
class Modulation:
    """1 + γ and β for one normalisation: whole [N, C, H, W], or as tables [U, C] to be gathered.

    Attributes:
        scale: 1 + γ.
        shift: β.
        places: What the rows of the tables stand for; None where the values are whole.
    """

    scale: Tensor
    shift: Tensor
    places: Neighbourhoods | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return 2 * self.scale.nbytes

    @property
    def whole_nbytes(self) -> int:
        """Bytes that the values take once gathered."""
        if self.places is None:
            return self.nbytes
        return 2 * math.prod(self.places.shape) * self.scale.shape[1] * self.scale.element_size()

    def whole(self) -> "Modulation":
        """The same with a value at every pixel, in channels-last memory."""
        if self.places is None:
            return self
        scale, shift = (
            self.places.pixels(table).view(*self.places.shape, -1).permute(0, 3, 1, 2)
            for table in (self.scale, self.shift)
        )
        return Modulation(scale, shift)


class SpadeModulation(nn.Module):
    """The two convolutions that turn a map into the modulation of ``width`` channels."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(classes, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, width, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, width, 3, padding=1)

    def modulation(self, semantic_map: SemanticMap, size: int) -> Modulation:
        """1 + γ and β for features of ``size`` rows."""
        maps, neighbourhoods = semantic_map.at(size)
        if not finds_neighbourhoods(maps.device):
            # In two convolutions, as a half of one would keep the memory of both for the gradient.
            hidden = self.mlp_shared(maps)
            scale = F.conv2d(hidden, self.mlp_gamma.weight, _bias(self.mlp_gamma) + 1, padding=1)
            return Modulation(scale, self.mlp_beta(hidden))
        # γ and β are one convolution; the 1 of 1 + γ goes into its bias.
        weight = torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight])
        bias = torch.cat([_bias(self.mlp_gamma) + 1, _bias(self.mlp_beta)])
        if neighbourhoods is None:
            scale, shift = F.conv2d(self.mlp_shared(maps), weight, bias, padding=1).chunk(2, dim=1)
            layout = torch.channels_last
            return Modulation(scale.contiguous(memory_format=layout), shift.contiguous(memory_format=layout))
        shared = self.mlp_shared[0]
        assert isinstance(shared, nn.Conv2d)
        hidden = F.relu(F.linear(neighbourhoods.windows, shared.weight.flatten(1), shared.bias))
        hidden = F.pad(hidden, (0, 0, 0, 1))  # the row of zeros for what is outside
        # A row of the table is a pixel to the 1x1 convolution.
        hidden = hidden[None, None].permute(0, 3, 1, 2)
        taps = pointwise(hidden, weight.permute(2, 3, 0, 1).flatten(0, 2))  # [1, 9 * 2C, 1, V + 1]
        taps = taps.permute(0, 2, 3, 1).reshape(-1, len(weight))
        table = neighbourhoods.taps(taps.to(bias.dtype)) + bias
        scale, shift = table.to(taps.dtype).chunk(2, dim=1)
        return Modulation(scale.contiguous(), shift.contiguous(), neighbourhoods)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The 1x1 convolution of channels-last features [N, C, H, W] with a weight [out, C]: [N, out, H, W].

    It is a matrix product; but on several threads of a CPU, PyTorch leaves convolutions to oneDNN and
    matrix products to MKL, which on AMD's processors is half as quick.
    """
    if not device_choices.is_queue(x.device) and torch.get_num_threads() > 1:
        return F.conv2d(x, weight[:, :, None, None], bias)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
