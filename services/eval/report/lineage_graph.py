"""The lineage as a picture: slices above, then the models and what they drew, the report at the bottom."""

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Widths, in px: of the way past a model, of a model, and of the ways past everything to the report.
_PAST, _MODEL, _ASIDE = 74, 98, 74
_SET: Final = _PAST + _MODEL
#: Where the boxes of each kind begin, and how high they are.
_SLICES, _MODELS, _SAMPLES, _REPORT, _HIGH = 2, 118, 226, 318, 46
#: Between boxes, and between lines that run across side by side.
_GAP, _APART = 12, 7
#: Characters of a label's line, and px of a character of a box's title.
_LABEL, _CHARACTER = 12, 7.6
_DIGEST: Final = 8


@dataclass(frozen=True)
class Box:
    """A dataset.

    Attributes:
        left: In px, as the other three.
        top: From above.
        width: Its width.
        height: Its height.
        title: What it is.
        text: Its digest and size.
    """

    left: float
    top: float
    width: float
    height: float
    title: str
    text: str


@dataclass(frozen=True)
class Arrow:
    """What was made from what.

    Attributes:
        points: Of its line, the tip last.
        label: Lines of text.
        label_at: Middle of the first of them.
    """

    points: tuple[tuple[float, float], ...]
    label: tuple[str, ...] = ()
    label_at: tuple[float, float] = (0, 0)


@dataclass(frozen=True)
class Graph:
    """The picture.

    Attributes:
        width: In px.
        height: In px.
        boxes: The datasets.
        arrows: Between them.
        sentences: The picture in words.
    """

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Origin:
    """A set's ancestors that are still there: the slices with its maps, the models, and what those saw."""

    samples: dict[str, Any]
    sources: Sequence[dict[str, Any]]
    models: Sequence[dict[str, Any]]
    training: Sequence[dict[str, Any]]


class _Sketch:
    """The picture while it is drawn."""

    def __init__(self, slices: dict[str, Box]) -> None:
        self.boxes, self.slices = list(slices.values()), slices
        self.arrows: list[Arrow] = []
        self.sentences: list[str] = []
        self._across = itertools.count()

    def use(
        self, dataset: dict[str, Any], at: tuple[float, float], label: list[str], label_top: float
    ) -> None:
        """An arrow from a dataset of slices to what it was used for."""
        line = _line(self.slices[dataset["manifest_sha256"]], *at, self._across)
        self.arrows.append(Arrow(line, tuple(label), (at[0], label_top)))

    def draw_set(self, numbers: dict[str, Any], origin: _Origin, left: float) -> None:
        """A set of synthetic slices, and the models that drew it above it."""
        name, middle = f"“{numbers['name']}”", left + _PAST + _MODEL / 2
        for dataset in origin.sources:
            label = _label("maps of", origin.samples["config"])
            self.use(dataset, (left + _PAST / 2, _SAMPLES), label, _MODELS + 12)
            self.sentences.append(f"{name} was drawn from {' '.join(label)} of {_named(dataset)}.")
        if origin.models:
            models, below = _digests(origin.models), _MODELS + _HIGH
            self.boxes.append(Box(left + _PAST + _GAP / 2, _MODELS, _MODEL - _GAP, _HIGH, "model", models))
            line = ((middle, below), (middle, _SAMPLES))
            self.arrows.append(Arrow(line, ("draws",), (middle, _SAMPLES - 31)))
            self.sentences.append(f"{name} was drawn by the model {models}.")
        for dataset in origin.training:
            label = _label("trained on", origin.models[0]["config"])
            self.use(dataset, (middle, _MODELS), label, _MODELS - 36)
            self.sentences.append(f"That model was {' '.join(label)} of {_named(dataset)}.")
        images = f"{_digests([origin.samples])}, {numbers['images']:,} images"
        title, centre = _fitting(numbers["name"], _SET - _GAP), left + _SET / 2
        self.boxes.append(Box(left, _SAMPLES, _SET - _GAP, _HIGH, title, images))
        self.arrows.append(Arrow(((centre, _SAMPLES + _HIGH), (centre, _REPORT))))

    def draw_report(self, real: dict[str, Any], trained: dict[str, Any] | None, left: float) -> None:
        """The report, and what it uses of the real slices, to the right of all sets."""
        compared = _label("compared with", real)
        self.use(real, (left + _ASIDE / 2, _REPORT), compared, _MODELS + 12)
        self.sentences.append(f"The synthetic slices are {' '.join(compared)} of {_named(real)}.")
        right = left + _ASIDE
        if trained is not None:
            used = subsets_words(trained["train_subsets"])
            label = _label("networks trained on", {"subsets": trained["train_subsets"]})
            self.use(real, (right + _ASIDE / 2, _REPORT), label, _MODELS + 12)
            self.sentences.append(
                f"Networks were trained on {used} of {_named(real)}, and on the synthetic slices."
            )
            right += _ASIDE
        self.boxes.append(Box(0, _REPORT, right - 1, 30, "this report", ""))


def lineage_graph(document: dict[str, Any]) -> Graph:
    """Draw the lineage of a report.

    Args:
        document: What ``metrics.json`` holds.
    """
    real, sets, trained = document["real"], document["sets"], document["downstream"]
    origins = [_origin(numbers["lineage"]) for numbers in sets]
    width = len(sets) * _SET + _ASIDE * (1 if trained is None else 2)
    sketch = _Sketch(_slices_boxes(origins, real, width))
    for number, (numbers, origin) in enumerate(zip(sets, origins, strict=True)):
        sketch.draw_set(numbers, origin, number * _SET)
    sketch.draw_report(real, trained, len(sets) * _SET)
    return Graph(width, _REPORT + 32, tuple(sketch.boxes), tuple(sketch.arrows), tuple(sketch.sentences))


def subsets_words(subsets: Sequence[int] | None) -> str:
    """Subsets in few words: runs of three and more by their ends."""
    if subsets is None:
        return "all subsets"
    runs: list[list[int]] = []
    for subset in sorted(subsets):
        if runs and runs[-1][-1] == subset - 1:
            runs[-1].append(subset)
        else:
            runs.append([subset])
    words = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"subset{'s' if len(subsets) > 1 else ''} {', '.join(words)}"


def _origin(lineage: Sequence[dict[str, Any]]) -> _Origin:
    def parents(children: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
        made_from = {digest for child in children for digest in child["parents"]}
        return [each for each in lineage if each["kind"] == kind and each["manifest_sha256"] in made_from]

    samples = lineage[0]
    models = parents([samples], "model")
    return _Origin(samples, parents([samples], "slices"), models, parents(models, "slices"))


def _slices_boxes(origins: Sequence[_Origin], real: dict[str, Any], width: int) -> dict[str, Box]:
    """A box for each dataset of slices, by digest, side by side; to the right what is compared with."""
    found = {
        dataset["manifest_sha256"]: dataset
        for origin in origins
        for dataset in (*origin.sources, *origin.training)
    }
    found.pop(real["manifest_sha256"], None)
    found[real["manifest_sha256"]] = real
    each = (width - 1 + _GAP) / len(found)
    return {
        digest: Box(
            left=round(number * each, 1),
            top=_SLICES,
            width=round(each - _GAP, 1),
            height=_HIGH,
            title=_fitting(f"slices: {_last_piece(dataset['uri'])}", each - _GAP),
            text=digest[:_DIGEST],
        )
        for number, (digest, dataset) in enumerate(found.items())
    }


def _line(box: Box, x: float, bottom: float, across: Iterator[int]) -> tuple[tuple[float, float], ...]:
    """From a box down to ``bottom`` at ``x``: straight, or with a way across when it is not below the box."""
    start, under = min(max(x, box.left + _GAP), box.left + box.width - _GAP), box.top + box.height
    if start == x:
        return ((x, under), (x, bottom))
    y = under + _APART * (1 + next(across) % 4)
    return ((start, under), (start, y), (x, y), (x, bottom))


def _label(what: str, config: dict[str, Any]) -> list[str]:
    """What an arrow says: what was done, and with which subsets, if that is known."""
    words = subsets_words(config["subsets"]) if "subsets" in config else ""
    return textwrap.wrap(what, _LABEL) + textwrap.wrap(words, _LABEL)


def _named(dataset: dict[str, Any]) -> str:
    return f"the slices at {dataset['uri']} ({dataset['manifest_sha256'][:_DIGEST]})"


def _digests(datasets: Sequence[dict[str, Any]]) -> str:
    return ", ".join(dataset["manifest_sha256"][:_DIGEST] for dataset in datasets)


def _last_piece(uri: str) -> str:
    return str(uri).rstrip("/").rsplit("/", 1)[-1]


def _fitting(text: str, width: float) -> str:
    most = int(width // _CHARACTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"
