"""The workers that a job cannot do without."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Workers that a job cannot do without.

    Attributes:
        cpus: Cores of each.
        gpus: GPUs of each, or a share of one.
        workers: How many must work at the same time.
        option: The option that asks for the GPUs.
    """

    cpus: float = 1
    gpus: float = 0
    workers: int = 1
    option: str = "--gpus-per-worker"

    @property
    def bundle(self) -> dict[str, float]:
        """Ray's resources of a worker."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def room(self, hosts: Iterable[Mapping[str, float]]) -> int:
        """How many such workers some hosts hold, by their resources; a worker is on one host."""
        return sum(self._room(host) for host in hosts)

    def _room(self, host: Mapping[str, float]) -> int:
        by_cpus = math.floor(host.get("CPU", 0) / self.cpus) if self.cpus else self.workers
        if not self.gpus:
            return by_cpus
        gpus = host.get("GPU", 0)
        # A share of a GPU lies on one of them.
        by_gpus = (
            math.floor(gpus) * math.floor(1 / self.gpus) if self.gpus < 1 else math.floor(gpus / self.gpus)
        )
        return min(by_cpus, by_gpus)

    def __str__(self) -> str:
        each = f"{count_words(self.cpus, 'core')}{f' and {gpu_words(self.gpus)}' if self.gpus else ''}"
        return f"{self.workers} workers of {each} each" if self.workers > 1 else f"a worker of {each}"


def gpu_words(count: float) -> str:
    """``2 GPUs``, ``0.5 of a GPU``."""
    return f"{count:g} of a GPU" if 0 < count < 1 else count_words(count, "GPU")


def count_words(count: float, what: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{count:g} {what}{'' if count == 1 else 's'}"
