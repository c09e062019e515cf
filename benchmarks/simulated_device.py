"""A device that has no memory: tensors of shapes alone, which counts what a GPU would be waited for.

PyTorch's meta device takes every path of the code that is not the CPU's. Nothing can be read back from it, so
every attempt is caught; here it is counted, or refused.
"""

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE: Final = torch.device("meta")

_ROOT: Final = Path(__file__).parents[1]
_aten = torch.ops.aten
#: The shape of what these give is decided by values, so that nothing can stand for it.
_SHAPES: Final = {
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique,
    _aten._unique2,
    _aten.unique_dim,
    _aten.unique_consecutive,
    _aten.repeat_interleave,
    _aten.bincount,
}
#: What the host must wait for: its result, or the shape of it, is decided by values.
_READINGS: Final = {_aten._local_scalar_dense, _aten.equal, _aten.is_nonzero, _aten.item, *_SHAPES}
_COPIES: Final = {_aten._to_copy, _aten.copy_}


class HostWaitsError(AssertionError):
    """The host would have to wait for the device."""


#: What makes a tensor of numbers on the host, which is then copied to its device.
_FROM_NUMBERS: Final = {torch.tensor, torch.as_tensor, Tensor.new_tensor}


class SimulatedDevice(TorchDispatchMode):
    """Within the block, all waiting for the device is counted.

    Args:
        strict: Raise ``HostWaitsError`` in place of counting, as is done anyway where no shape is known.

    Attributes:
        waits: Readings and blocking copies, by operation and line of the code.
        copies: Copies between host and device of either kind.
    """

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__()
        self.strict = strict
        self.waits: Counter[str] = Counter()
        self.copies = 0
        self._numbers = _Numbers(self)

    def __enter__(self) -> Self:
        self._numbers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See ``TorchDispatchMode``."""
        options, packet = dict(kwargs or {}), func.overloadpacket
        if packet not in _READINGS:
            # In inference mode, what is made of other operations comes here whole.
            TorchDispatchMode.__enter__(self)
            try:
                result = func.decompose(*args, **options)
            finally:
                TorchDispatchMode.__exit__(self, None, None, None)
            if result is not NotImplemented:
                return result
        given = [value for value in tree_leaves((args, options)) if isinstance(value, Tensor)]
        if packet in _READINGS and any(value.is_meta for value in given):
            return self.wait(packet.__name__, None if packet in _SHAPES else given[0])
        if packet is _aten.index and any(value.dtype in (torch.bool, torch.uint8) for value in given[1:]):
            return self.wait("index by a mask", None)
        if packet in _COPIES:
            source = args[1] if packet is _aten.copy_ else args[0]
            target = args[0].device if packet is _aten.copy_ else options.get("device") or source.device
            if source.is_meta and target.type == "cpu":
                return self.wait(packet.__name__, source)
            if source.is_cpu and target.type == "meta":
                self.copies += 1
                waits = not (args[2:3] == (True,) or options.get("non_blocking"))
                if waits:
                    self.wait(packet.__name__, source)
        return func(*args, **options)

    def wait(self, operation: str, values: Tensor | None) -> Any:
        """Count an operation on some values, or refuse it; what can stand for its result."""
        name = f"{operation} in {_line()}"
        if self.strict or values is None:
            raise HostWaitsError(f"the host would wait for the device: {name}")
        self.waits[name] += 1
        # Any answer serves: of the right type where the shape is known.
        if operation in ("_local_scalar_dense", "item"):
            return 1.0 if values.is_floating_point() else 1
        if operation in ("equal", "is_nonzero"):
            return False
        return torch.zeros(values.shape, dtype=values.dtype, device="cpu")


class _Numbers(TorchFunctionMode):
    """Notices the tensors that are made of numbers, which a dispatch mode does not see."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self._simulated = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See ``TorchFunctionMode``."""
        result = func(*args, **(kwargs or {}))
        if func in _FROM_NUMBERS and result.is_meta:
            self._simulated.wait(func.__name__, result)
        return result


def _line() -> str:
    """The innermost line of the repository that is at work."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT / "lungforge") or path.is_relative_to(_ROOT / "services"):
            return f"{path.relative_to(_ROOT)}:{frame.lineno}"
    return "the benchmark"


class WithoutMemory(TorchFunctionMode):
    """Within the block, modules are built without memory for their weights; all other tensors are real."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See ``TorchFunctionMode``."""
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = DEVICE
        return func(*args, **options)


def on_simulated_device(module: nn.Module) -> nn.Module:
    """The module on the simulated device."""
    return module.to(DEVICE)
