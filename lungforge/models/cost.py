"""What training and sampling cost on known GPUs: predictions, for which nothing was run on a GPU.

A step takes the time of its arithmetic at a share of the datasheet's rate, that share being what such
networks reach elsewhere with compiled blocks. It is good to a factor of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Bytes a parameter in training: the weight, its gradient, two moments, and the average, all float32.
STATE_BYTES: Final = 20
#: Bytes a parameter of the copy that a step in bfloat16 computes with.
COPY_BYTES: Final = 2
#: The share of the datasheet's arithmetic that a step is taken to reach.
REACHED: Final = 0.4
#: What a step does more than a forward pass: its gradient takes twice as much.
TRAINING_PASSES: Final = 3
#: What memory has to hold beside state and activations: buckets, workspaces, fragments.
OVERHEAD: Final = 1.15


@dataclass(frozen=True)
class Gpu:
    """A GPU, by its datasheet.

    Attributes:
        bfloat16_flops: Dense tensor arithmetic a second, accumulated in float32.
        float32_flops: The same in float32, outside the tensor cores.
        bytes_per_second: Of its memory.
        memory_bytes: How much it has.
    """

    bfloat16_flops: float
    float32_flops: float
    bytes_per_second: float
    memory_bytes: float


#: NVIDIA's datasheets; SXM modules where there are several.
GPUS: Final[Mapping[str, Gpu]] = {
    "H200": Gpu(989e12, 67e12, 4.8e12, 141e9),
    "H100": Gpu(989e12, 67e12, 3.35e12, 80e9),
    "A100": Gpu(312e12, 19.5e12, 2.039e12, 80e9),
    "RTX 4090": Gpu(165e12, 82.6e12, 1.008e12, 24e9),
}


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: How many it has.
        flops: Floating-point operations of a forward pass, an image.
        kept_bytes: Activations that its gradient needs, an image.
    """

    parameters: int
    flops: float
    kept_bytes: float

    def training_bytes(self, images: int) -> float:
        """Memory of a GPU that takes so many images a step."""
        return OVERHEAD * ((STATE_BYTES + COPY_BYTES) * self.parameters + images * self.kept_bytes)

    def step_seconds(self, images: int, gpu: Gpu) -> float:
        """Time of a training step of a GPU that takes so many images."""
        return TRAINING_PASSES * images * self.flops / (REACHED * gpu.bfloat16_flops)


def training_line(cost: Cost, *, images: int, workers: int, steps: int) -> str:
    """A line that says what a run on GPUs takes, before it starts.

    Args:
        cost: Of the network.
        images: A step and GPU.
        workers: GPUs.
        steps: Of the run.
    """
    hours = ", ".join(
        f"{steps * cost.step_seconds(images, gpu) / 3600:.0f} on {name}" for name, gpu in GPUS.items()
    )
    each = "" if workers == 1 else " each"
    gpus = f"{workers} GPU{'s' * (workers > 1)}"
    return (
        f"{cost.parameters / 1e6:.0f} M parameters; {steps:,} steps of {images * workers} images on {gpus}, "
        f"about {cost.training_bytes(images) / 2**30:.0f} GiB{each}; "
        f"hours by the datasheets: {hours}"
    )
