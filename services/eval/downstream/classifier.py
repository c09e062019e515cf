"""Nodule classification: a squeeze-and-excitation ResNet (mmpretrain) on crops."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.eval.downstream import mmcv_operators
from services.eval.downstream.augment import augment as augment_picture
from services.eval.downstream.training import (
    BestCheckpoint,
    Fit,
    TrainingSchedule,
    batches,
    checkpoint_steps,
    normalised,
    one_cycle,
)


@dataclass(frozen=True)
class ClassifierPreset:
    """A classifier and how long it is trained.

    Attributes:
        depth: Of the SE-ResNet: 50, 101 or 152.
        base_channels: Width of its first stage; 64 in the paper.
        input_px: Side that crops are enlarged to.
        schedule: Steps, crops per step, and the learning rate.
    """

    depth: int
    base_channels: int
    input_px: int
    schedule: TrainingSchedule


CLASSIFIERS: Final = {
    # Seconds, for tests.
    "tiny": ClassifierPreset(50, 8, 32, TrainingSchedule(4, 8, 1e-3)),
    # About half a minute on a core.
    "cpu": ClassifierPreset(50, 16, 64, TrainingSchedule(400, 32, 1e-3)),
    # The network of the published study, trained from random weights.
    "published": ClassifierPreset(101, 64, 224, TrainingSchedule(10_000, 32, 3e-4)),
}


class Classifier:
    """An SE-ResNet that tells nodules from what is none.

    Hu, Shen and Sun, "Squeeze-and-Excitation Networks", 2018.

    Args:
        preset: What to build.
        device: Where.
        seed: Of the weights.
    """

    def __init__(self, preset: ClassifierPreset, *, device: torch.device, seed: int) -> None:
        # mmpretrain loads mmdet where it is installed, and that wants the operators.
        mmcv_operators.provide()
        from mmengine.config import ConfigDict
        from mmpretrain.registry import MODELS
        from mmpretrain.utils import register_all_modules

        width = preset.base_channels
        document = {
            "type": "ImageClassifier",
            "backbone": {
                "type": "SEResNet",
                "depth": preset.depth,
                "base_channels": width,
                "stem_channels": width,
                "num_stages": 4,
                "out_indices": (3,),
            },
            "neck": {"type": "GlobalAveragePooling"},
            # Bottleneck blocks of the fourth stage end with 4 x 8 times the width of the first.
            "head": {"type": "LinearClsHead", "num_classes": 2, "in_channels": 32 * width},
        }
        # mmengine prints what it initialises, line by line, to stdout, where results go.
        with contextlib.redirect_stdout(io.StringIO()):
            register_all_modules(init_default_scope=True)
            torch.manual_seed(seed)
            self._model = MODELS.build(ConfigDict(document))
            self._model.init_weights()
        self._preset, self._device = preset, device
        self._model.to(device)

    def fit(
        self,
        crops: NDArray[np.int16],
        is_nodule: NDArray[np.bool_],
        generator: np.random.Generator,
        score: Callable[[], float],
        *,
        augment: bool,
    ) -> Fit:
        """Train for the steps of the preset, and go back to the checkpoint with the best validation score.

        Nodules and others weigh the same in the loss, however many there are of each.

        Args:
            crops: HU, int16 ``[N, 32, 32]``.
            is_nodule: bool ``[N]``.
            generator: Draws the batches, and the augmentation.
            score: Scores the network as it is then, by :meth:`predict`, on the validation scans.
            augment: Whether crops are changed at random before each step.
        """
        schedule = self._preset.schedule
        best, scored = BestCheckpoint(self._model), checkpoint_steps(schedule.steps)
        counts = np.maximum(np.bincount(is_nodule.astype(np.int64), minlength=2), 1)
        weight = torch.tensor(len(crops) / (2.0 * counts), dtype=torch.float32, device=self._device)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=schedule.rate, weight_decay=1e-4)
        losses = []
        for step, chosen in enumerate(batches(len(crops), schedule, generator)):
            self._model.train()
            one_cycle(optimizer, schedule, step)
            pictures = crops[chosen]
            if augment:
                pictures = np.stack([augment_picture(picture, [], generator)[0] for picture in pictures])
            target = torch.from_numpy(is_nodule[chosen].astype(np.int64)).to(self._device)
            loss = nn.functional.cross_entropy(self._logits(pictures), target, weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if step + 1 in scored:
                best.offer(step + 1, score())
        return best.restore(losses)

    def predict(self, crops: NDArray[np.int16]) -> NDArray[np.float64]:
        """The probability of a nodule for each of ``crops [N, 32, 32]``, float64 ``[N]``."""
        self._model.eval()
        size = self._preset.schedule.pictures
        probabilities = []
        for start in range(0, len(crops), size):
            with torch.inference_mode():
                probabilities.append(self._logits(crops[start : start + size]).softmax(dim=1)[:, 1])
        return torch.cat(probabilities).cpu().numpy().astype(np.float64)

    def _logits(self, crops: NDArray[np.int16]) -> torch.Tensor:
        side = self._preset.input_px
        return self._model(normalised(crops, self._device, (side, side)), mode="tensor")
