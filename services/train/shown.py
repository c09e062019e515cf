"""What of a step's metrics stands beside the progress bar; TensorBoard has all of them, of every step."""

from collections.abc import Mapping

#: Steps that the loss is smoothed over: that of a single batch depends mostly on its noise.
_SMOOTHED_STEPS = 50


class SmoothedLoss:
    """Replaces the first metric, the loss, by its mean over the last steps, the newest weighing most."""

    def __init__(self) -> None:
        self._mean, self._weight = 0.0, 0.0

    def update(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics of a step with its loss smoothed; nothing of a step that has none."""
        if not metrics:
            return {}
        name, loss = next(iter(metrics.items()))
        kept = 1 - 1 / _SMOOTHED_STEPS
        self._mean = kept * self._mean + (1 - kept) * loss
        self._weight = kept * self._weight + (1 - kept)
        return {**metrics, name: self._mean / self._weight}


def note(metrics: Mapping[str, float]) -> str:
    """The loss, and the error of the image in HU: the mean over its bands of noise, where there are some."""
    if not metrics:
        return ""
    name, loss = next(iter(metrics.items()))
    errors = [value for other, value in metrics.items() if other.endswith("_hu")]
    words = [f"{name.replace('_', ' ')} {loss:.3g}"]
    if errors:
        words.append(f"error {sum(errors) / len(errors):.0f} HU")
    return ", ".join(words)
