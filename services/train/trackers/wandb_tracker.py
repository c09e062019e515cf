"""Metrics in Weights & Biases; without a key or a network, in files that ``wandb sync`` sends later."""

import contextlib
import netrc
import os
from collections.abc import Mapping

import numpy as np
import wandb
from numpy.typing import NDArray

from services.common.progress import say
from services.train.trackers.base import Target

_PROJECT = "lungforge"
#: Seconds to wait for the server before the files are kept here.
_PATIENCE_S = 30.0


class WandbTracker:
    """A run in Weights & Biases.

    Args:
        target: The run.
    """

    def __init__(self, target: Target) -> None:
        # Only what is logged: no console, code, command line, host or user name.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            init_timeout=_PATIENCE_S,
        )
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")

        def begin(mode: str) -> wandb.Run:
            return wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                id=target.run,
                name=target.title,
                dir=target.place,
                config=dict(target.options),
                mode=mode,  # type: ignore[arg-type]
                # Without a server there is nothing to ask; the same id joins the parts when they are sent.
                resume=None if mode == "offline" else "allow",
                settings=settings,
            )

        try:
            self._run = begin(mode)
        except wandb.errors.Error as error:
            if mode == "offline":
                raise
            say(f"Weights & Biases does not answer ({error}); its files are kept in {target.place}/wandb")
            self._run = begin("offline")

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        self._run.log({f"train/{name}": value for name, value in metrics.items()}, step=done)

    def picture(self, done: int, picture: NDArray[np.uint8]) -> None:
        """See ``Tracker``."""
        self._run.log({"preview": wandb.Image(picture)}, step=done)

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
        self._run.finish(exit_code=int(failed))


def _has_key() -> bool:
    """Whether somebody has logged in: by the variable, or with ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators("api.wandb.ai") is not None
    return False
