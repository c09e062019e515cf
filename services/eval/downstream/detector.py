"""Nodule localisation: Faster R-CNN with a feature pyramid (mmdet)."""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.ct.nodules import Box
from services.eval.downstream import mmcv_operators
from services.eval.downstream.training import (
    BestCheckpoint,
    Fit,
    TrainingSchedule,
    batches,
    checkpoint_steps,
    normalised,
    one_cycle,
)

#: Boxes of an image that are kept, the best first.
BOXES_KEPT: Final = 20
#: Boxes that the detector is less sure of are left out.
_LEAST_SCORE: Final = 0.01


@dataclass(frozen=True)
class DetectorPreset:
    """A detector and how long it is trained.

    Attributes:
        backbone: mmdet's configuration of the backbone.
        channels: Of its four stages.
        width: Channels of the feature pyramid; the layers of the heads have four times as many.
        enlarge: By how much pictures are enlarged before they go in; 1 leaves them.
        anchor_scale: Side of the smallest anchor in strides of the finest level, which are 4 px.
        schedule: Steps, pictures per step, and the learning rate.
    """

    backbone: dict[str, Any]
    channels: tuple[int, int, int, int]
    width: int
    enlarge: int
    anchor_scale: int
    schedule: TrainingSchedule


_RESNET_18: Final = {
    "type": "ResNet",
    "depth": 18,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "style": "pytorch",
}
_RESNEXT_101: Final = {
    "type": "ResNeXt",
    "depth": 101,
    "groups": 32,
    "base_width": 4,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "style": "pytorch",
}

DETECTORS: Final = {
    # Seconds, for tests.
    "tiny": DetectorPreset(_RESNET_18, (64, 128, 256, 512), 32, 1, 2, TrainingSchedule(4, 4, 1e-3)),
    # About a minute on a core for pictures of 64 px.
    "cpu": DetectorPreset(_RESNET_18, (64, 128, 256, 512), 64, 2, 4, TrainingSchedule(400, 8, 5e-4)),
    # The network of the published study, trained from random weights.
    "published": DetectorPreset(
        _RESNEXT_101, (256, 512, 1024, 2048), 256, 1, 2, TrainingSchedule(10_000, 16, 2e-4)
    ),
}


class Detector:
    """A Faster R-CNN for one class, nodules.

    Args:
        preset: What to build.
        device: Where.
        seed: Of the weights and of everything random in training.
    """

    def __init__(self, preset: DetectorPreset, *, device: torch.device, seed: int) -> None:
        mmcv_operators.provide()
        from mmdet.registry import MODELS
        from mmdet.utils import register_all_modules
        from mmengine.config import ConfigDict

        # mmengine prints what it initialises, line by line, to stdout, where results go.
        with contextlib.redirect_stdout(io.StringIO()):
            register_all_modules(init_default_scope=True)
            torch.manual_seed(seed)
            self._model = MODELS.build(ConfigDict(_faster_rcnn(preset)))
            self._model.init_weights()
        self._preset, self._device = preset, device
        self._model.to(device)

    def fit(
        self,
        pictures: NDArray[np.int16],
        boxes: Sequence[Sequence[Box]],
        generator: np.random.Generator,
        score: Callable[[], float],
        augment: Callable | None = None,
    ) -> Fit:
        """Train for the steps of the preset, and go back to the checkpoint with the best validation score.

        Args:
            pictures: ``[N, H, W]`` int16 HU.
            boxes: Of each picture's nodules, in its pixels.
            generator: Draws the batches, and what ``augment`` does.
            score: Scores the network as it is then, by :meth:`predict`, on the validation scans.
            augment: Changes a picture and its boxes; None leaves them.
        """
        schedule = self._preset.schedule
        best, scored = BestCheckpoint(self._model), checkpoint_steps(schedule.steps)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=schedule.rate, weight_decay=1e-4)
        losses = []
        for step, chosen in enumerate(batches(len(pictures), schedule, generator)):
            self._model.train()
            one_cycle(optimizer, schedule, step)
            examples = [(pictures[index], boxes[index]) for index in chosen.tolist()]
            if augment is not None:
                examples = [augment(*example, generator) for example in examples]
            loss = self._loss(
                np.stack([picture for picture, _ in examples]), [truth for _, truth in examples]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 10.0)
            optimizer.step()
            losses.append(loss.item())
            if step + 1 in scored:
                best.offer(step + 1, score())
        return best.restore(losses)

    def predict(self, pictures: NDArray[np.int16]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Boxes ``[K, 4]`` (left, top, width, height) and scores ``[K]`` of each picture, the best first."""
        self._model.eval()
        detections = []
        size = self._preset.schedule.pictures
        for start in range(0, len(pictures), size):
            inputs, samples = self._inputs(pictures[start : start + size], None)
            with torch.inference_mode():
                results = self._model(inputs, samples, mode="predict")
            for result in results:
                kept = result.pred_instances[:BOXES_KEPT]
                corners = kept.bboxes.float().cpu().numpy().astype(np.float64) / self._preset.enlarge
                boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
                detections.append((boxes, kept.scores.float().cpu().numpy().astype(np.float64)))
        return detections

    def _loss(self, pictures: NDArray[np.int16], boxes: Sequence[Sequence[Box]]) -> torch.Tensor:
        inputs, samples = self._inputs(pictures, boxes)
        parts = self._model(inputs, samples, mode="loss")
        # mmdet gives each loss as a tensor or a list of them (a level each), and beside them an accuracy.
        losses = [
            value
            for name, values in parts.items()
            if "loss" in name
            for value in (values if isinstance(values, list) else [values])
        ]
        return torch.stack([value.mean() for value in losses]).sum()

    def _inputs(
        self, pictures: NDArray[np.int16], boxes: Sequence[Sequence[Box]] | None
    ) -> tuple[torch.Tensor, list[Any]]:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        enlarge = self._preset.enlarge
        inputs = normalised(pictures, self._device, tuple(enlarge * side for side in pictures.shape[1:]))
        shape = tuple(inputs.shape[2:])
        samples = []
        for index in range(len(pictures)):
            sample = DetDataSample(
                metainfo={
                    "img_shape": shape,
                    "ori_shape": shape,
                    "pad_shape": shape,
                    "batch_input_shape": shape,
                    "scale_factor": (1.0, 1.0),
                }
            )
            truth = torch.tensor([] if boxes is None else boxes[index], dtype=torch.float32).reshape(-1, 4)
            corners = torch.cat([truth[:, :2], truth[:, :2] + truth[:, 2:]], dim=1) * enlarge
            sample.gt_instances = InstanceData(
                bboxes=corners.to(self._device),
                labels=torch.zeros(len(truth), dtype=torch.long, device=self._device),
            )
            samples.append(sample)
        return inputs, samples


def _faster_rcnn(preset: DetectorPreset) -> dict[str, Any]:
    """The configuration for mmdet: Ren et al., "Faster R-CNN", 2015; Lin et al.'s feature pyramid, 2017."""
    strides = [4, 8, 16, 32]
    box_coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4}
    return {
        "type": "FasterRCNN",
        "backbone": {**preset.backbone, "init_cfg": None},
        "neck": {
            "type": "FPN",
            "in_channels": list(preset.channels),
            "out_channels": preset.width,
            "num_outs": len(strides),
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": preset.width,
            "feat_channels": preset.width,
            # The usual smallest anchor is 32 px; nodules are about 10.
            "anchor_generator": {
                "type": "AnchorGenerator",
                "octave_base_scale": preset.anchor_scale,
                "scales_per_octave": 2,
                "ratios": [1.0],
                "strides": strides,
            },
            "bbox_coder": box_coder | {"target_stds": [1.0] * 4},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
            "loss_bbox": {"type": "L1Loss"},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
                "out_channels": preset.width,
                "featmap_strides": strides,
                # Boxes up to 32 px, which are all nodules, are looked at on the finest level.
                "finest_scale": 32,
            },
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": preset.width,
                "fc_out_channels": 4 * preset.width,
                "roi_feat_size": 7,
                "num_classes": 1,
                "reg_class_agnostic": True,
                "bbox_coder": box_coder | {"target_stds": [0.1, 0.1, 0.2, 0.2]},
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
                "loss_bbox": {"type": "L1Loss"},
            },
        },
        "train_cfg": {
            "rpn": {
                "assigner": {
                    "type": "MaxIoUAssigner",
                    "pos_iou_thr": 0.5,
                    "neg_iou_thr": 0.3,
                    "min_pos_iou": 0.3,
                    "match_low_quality": True,
                },
                "sampler": {
                    "type": "RandomSampler",
                    "num": 128,
                    "pos_fraction": 0.5,
                    "add_gt_as_proposals": False,
                },
                "allowed_border": -1,
                "pos_weight": -1,
            },
            "rpn_proposal": {
                "nms_pre": 500,
                "max_per_img": 200,
                "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": {
                "assigner": {
                    "type": "MaxIoUAssigner",
                    "pos_iou_thr": 0.5,
                    "neg_iou_thr": 0.5,
                    "min_pos_iou": 0.5,
                    "match_low_quality": False,
                },
                "sampler": {
                    "type": "RandomSampler",
                    "num": 64,
                    "pos_fraction": 0.25,
                    "add_gt_as_proposals": True,
                },
                "pos_weight": -1,
            },
        },
        "test_cfg": {
            "rpn": {
                "nms_pre": 500,
                "max_per_img": 200,
                "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": _LEAST_SCORE,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": BOXES_KEPT,
            },
        },
    }
