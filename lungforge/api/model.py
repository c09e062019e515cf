"""Models that sample and inpaint slices in this process."""

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lungforge.api.conditions import Condition, Maps, conditions_of
from lungforge.api.edits import EditedSlice
from lungforge.ct.classes import COUNT
from lungforge.ct.edits import surroundings
from lungforge.errors import ContentError, InputError
from lungforge.models.base import Identity, InpaintingSampler, SamplerName, SamplingOptions, SliceSampler
from lungforge.models.model_dataset import ModelDataset
from lungforge.models.sampling import NotFiniteError
from lungforge.storage import packaged

#: Images that are sampled at a time, as by `lungforge sample`.
_BATCH: Final = 8


def load_model(uri: str, *, device: str | None = None) -> "Model":
    """Load a model that comes with LungForge, or that `lungforge train` made.

    Args:
        uri: The name of a model that comes with LungForge (``slices-64``); or the folder or URI of a model. A
            folder of such a name is ``./slices-64``.
        device: Where it computes: ``cpu``, ``cuda``, ``cuda:1``; a GPU where there is one, if not given.

    Raises:
        InputError: There is no such model, or no such device.
        ContentError: The model is damaged.
        AccessError: It cannot be read now.

    Example:
        >>> model = lungforge.load_model("slices-64")
        >>> model.size
        64
    """
    where = f"{packaged.SCHEME}://{uri}" if uri in packaged.packaged_names() else uri
    try:
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device is {device!r}, which does not work here ({reason}); try cpu") from error
    return Model(ModelDataset.open(where), target)


class Model:
    """A generator that is ready to sample; made by ``load_model``.

    An image depends on its seed, its slice (or map), which of the map's images it is, and the options; not on
    the other maps, nor on the order. In other batches and with other thread counts, rounding may change
    pixels by 1 HU.

    Attributes:
        dataset: The model as it is stored: its network, and what it was trained on.
        device: Where it computes.
    """

    def __init__(self, dataset: ModelDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        if dataset.config.classes != COUNT:
            raise InputError(
                f"the model {dataset.dataset.uri} has {dataset.config.classes} classes and the maps of "
                f"LungForge have {COUNT}; train one with `lungforge train`"
            )

    @property
    def size(self) -> int:
        """Rows and columns of its images, in px."""
        return int(self.dataset.config.image_size)

    @property
    def series_uids(self) -> tuple[str, ...]:
        """The scans that it was trained on; empty where that is not known."""
        return tuple(self.dataset.details.series_uids or ())

    def sample(
        self,
        maps: Maps,
        n: int = 1,
        *,
        seed: int = 0,
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        spacing_mm: tuple[float, float] | None = None,
    ) -> NDArray[np.int16]:
        """Sample slices from semantic maps.

        From slices, the images are those of `lungforge sample --per-map N` with the same seed and options; of
        an edited slice the first is that of `--edits`, as there each image has an edit of its own. Equal maps
        without a slice give equal images: ask for more with ``n``.

        Args:
            maps: Slices (``open_slices(uri)``, some of its rows or items, or what ``edit_map`` gave), or
                maps of classes 0-5, uint8 [N, H, W].
            n: Images of each map.
            seed: Decides the noise.
            sampler: dpmpp, heun, ddim or ancestral; what suits the model if not given.
            steps: Evaluations of the network along an image; what suits the model if not given.
            guidance: How much the map is stressed; what suits the model if not given.
            spacing_mm: Of maps: distance between pixel centres (row, column). Only some models use it.

        Returns:
            HU, int16 [N * n, H, W]: the n images of the first map, then those of the second, and so on.

        Raises:
            InputError: A map is of another size than the model's images, or an argument is out of range.
            ContentError: The model gives values that are not finite.

        Example:
            >>> slices = lungforge.open_slices("lungforge://maps-64", subsets=3)
            >>> lungforge.load_model("slices-64").sample([slices.row(0)], n=2, steps=4).shape
            (2, 64, 64)
        """
        options = SamplingOptions(sampler, steps, guidance)
        return self._images(conditions_of(maps, spacing_mm), n, seed, self._sampler(options))

    def inpaint(
        self,
        edited: EditedSlice | Sequence[EditedSlice],
        n: int = 1,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> NDArray[np.int16]:
        """Sample only the surroundings of an edit, and keep the real pixels elsewhere, to the last bit.

        Args:
            edited: What ``edit_map`` gave of slices.
            n: Images of each.
            seed: Decides the noise.
            steps: Evaluations of the network along an image; what suits the model if not given.
            guidance: How much the map is stressed; what suits the model if not given.

        Returns:
            HU, int16 [N * n, H, W].

        Raises:
            InputError: The model cannot inpaint; nothing was edited; or as for ``sample``.
            ContentError: As for ``sample``.

        Example:
            >>> row = lungforge.open_slices("lungforge://maps-64", subsets=3).row(0)
            >>> moved = lungforge.edit_map(row, "move")
            >>> lungforge.load_model("slices-64").inpaint(moved, steps=4).shape
            (1, 64, 64)
        """
        slices = [edited] if isinstance(edited, EditedSlice) else list(edited)
        for each in slices:
            if not isinstance(each, EditedSlice) or not each.changed.any():
                raise InputError(
                    "inpaint takes slices with an edited map; give what lungforge.edit_map made of a slice, "
                    "with another edit than none"
                )
        if not self.dataset.spec.inpaints:
            raise InputError(
                f"{self.dataset.dataset.uri} is {self.dataset.spec.summary}, which cannot inpaint; use sample"
            )
        sampler = self._sampler(SamplingOptions("ancestral", steps, guidance))
        return self._images(conditions_of(slices, None), n, seed, sampler, inpainted=True)

    @functools.cached_property
    def _network(self) -> nn.Module:
        return self.dataset.network(classes=COUNT).to(self.device)

    def _sampler(self, options: SamplingOptions) -> SliceSampler:
        chosen = self.dataset.spec.sampling(self.dataset.config, options)
        return self.dataset.spec.sampler(self._network, chosen)

    def _images(
        self,
        conditions: list[Condition],
        n: int,
        seed: int,
        sampler: SliceSampler,
        *,
        inpainted: bool = False,
    ) -> NDArray[np.int16]:
        """All images, a batch at a time."""
        if n < 1 or not conditions:
            raise InputError(f"{len(conditions)} maps and n = {n}; give at least one map, and n of 1 or more")
        for condition in conditions:
            self._require_size(condition.label)
        wanted = [(condition, replicate) for condition in conditions for replicate in range(n)]
        images = []
        for start in range(0, len(wanted), _BATCH):
            batch = [condition for condition, _ in wanted[start : start + _BATCH]]
            identities = [
                condition.identity(seed, replicate, inpainted=inpainted)
                for condition, replicate in wanted[start : start + _BATCH]
            ]
            try:
                images.append(_sample_batch(sampler, batch, identities, inpainted=inpainted))
            except NotFiniteError as error:
                raise ContentError(
                    f"{self.dataset.dataset.uri}: image {start + error.positions[0]} is not finite; the "
                    "model is broken or cannot sample with these options: try another sampler, more steps or "
                    "less guidance"
                ) from error
        return np.concatenate(images)

    def _require_size(self, label: NDArray[np.uint8]) -> None:
        if label.shape == (self.size, self.size):
            return
        height, width = label.shape
        remedy = f"size={self.size}"
        if self.dataset.details.patch is not None:
            remedy = f"patches={self.size}, as it was trained on patches"
        raise InputError(
            f"the model makes images of {self.size} x {self.size} px and the map has {height} x {width}; "
            f"open the slices with {remedy}"
        )

    def __repr__(self) -> str:
        return f"<{self.dataset.spec.summary}, {self.size} px, {self.dataset.dataset.uri}, on {self.device}>"


def _sample_batch(
    sampler: SliceSampler, batch: Sequence[Condition], identities: Sequence[Identity], *, inpainted: bool
) -> NDArray[np.int16]:
    labels = np.stack([condition.label for condition in batch])
    known = [condition.place for condition in batch if condition.place is not None]
    places = np.stack(known) if len(known) == len(batch) else None
    if not inpainted:
        return sampler.sample(labels, identities, places)
    assert isinstance(sampler, InpaintingSampler), "the spec says that it inpaints"
    slices = [condition.edited for condition in batch if condition.edited is not None]
    real = np.stack([each.image for each in slices])
    mask = np.stack([surroundings(each.changed, each.spacing_mm) for each in slices])
    return sampler.inpaint(labels, identities, real, mask, places)
