"""The lineage as a picture: every arrow is a claim about what was seen."""

from typing import Any

import pytest

from services.eval.report.lineage_graph import Graph, lineage_graph, subsets_words

REAL, OTHER, MODEL, SAMPLES = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def _ancestor(
    kind: str, digest: str, uri: str, subsets: list[int] | None = None, parents: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "kind": kind,
        "uri": uri,
        "manifest_sha256": digest,
        "code_version": "1",
        "config": {} if subsets is None else {"subsets": subsets},
        "parents": list(parents),
    }


def _graph(*lineage: dict[str, Any], maps: str = REAL, train: list[int] | None = None) -> Graph:
    samples = _ancestor("samples", SAMPLES, "s3://lab/sdm", [0, 1, 2], (MODEL, maps))
    return lineage_graph(
        {
            "real": {"uri": "s3://lab/slices", "manifest_sha256": REAL, "subsets": [8, 9]},
            "sets": [{"name": "sdm", "images": 1200, "lineage": [samples, *lineage]}],
            "downstream": None if train is None else {"train_subsets": train},
        }
    )


SLICES = _ancestor("slices", REAL, "s3://lab/slices")
TRAINED = _ancestor("model", MODEL, "s3://lab/model", [0, 1, 2, 3], (REAL,))
ELSEWHERE = _ancestor("slices", OTHER, "s3://lab/other")


def _box_of(graph: Graph, title: str) -> Any:
    (box,) = [box for box in graph.boxes if box.title.startswith(title)]
    return box


def _inside(box: Any, place: tuple[float, float]) -> bool:
    x, y = place
    return box.left <= x <= box.left + box.width and y in (box.top, box.top + box.height)


def test_one_dataset_of_slices_is_trained_on_drawn_from_and_compared_with() -> None:
    graph = _graph(SLICES, TRAINED, train=[0, 1, 2])
    assert [(box.title, box.text) for box in graph.boxes] == [
        ("slices: slices", "aaaaaaaa"),
        ("model", "cccccccc"),
        ("sdm", "dddddddd, 1,200 images"),
        ("this report", ""),
    ]
    assert graph.sentences == (
        "“sdm” was drawn from maps of subsets 0–2 of the slices at s3://lab/slices (aaaaaaaa).",
        "“sdm” was drawn by the model cccccccc.",
        "That model was trained on subsets 0–3 of the slices at s3://lab/slices (aaaaaaaa).",
        "The synthetic slices are compared with subsets 8, 9 of the slices at s3://lab/slices (aaaaaaaa).",
        "Networks were trained on subsets 0–2 of the slices at s3://lab/slices (aaaaaaaa), "
        "and on the synthetic slices.",
    )


@pytest.mark.parametrize("train", [None, [0, 1]])
def test_arrows_begin_and_end_at_the_boxes_that_they_speak_of(train: list[int] | None) -> None:
    graph = _graph(SLICES, TRAINED, train=train)
    slices, model, samples, report = (
        _box_of(graph, title) for title in ("slices", "model", "sdm", "this report")
    )
    ends = {" ".join(arrow.label): (arrow.points[0], arrow.points[-1]) for arrow in graph.arrows}
    wanted = {
        "maps of subsets 0–2": (slices, samples),
        "trained on subsets 0–3": (slices, model),
        "draws": (model, samples),
        "compared with subsets 8, 9": (slices, report),
        "": (samples, report),
    }
    if train is not None:
        wanted["networks trained on subsets 0, 1"] = (slices, report)
    assert set(ends) == set(wanted)
    for label, (start, end) in wanted.items():
        assert _inside(start, ends[label][0]), label
        assert _inside(end, ends[label][1]), label


def test_no_arrow_runs_through_a_box_and_all_is_in_the_picture() -> None:
    graph = _graph(ELSEWHERE, TRAINED, SLICES, maps=OTHER, train=[0])
    for arrow in graph.arrows:
        x = arrow.points[-1][0]
        top, bottom = arrow.points[-2][1], arrow.points[-1][1]
        for box in graph.boxes:
            beside = not box.left < x < box.left + box.width
            assert beside or box.top >= bottom or box.top + box.height <= top, arrow.label
    assert all(box.left + box.width <= graph.width for box in graph.boxes)
    assert max(box.top + box.height for box in graph.boxes) <= graph.height
    assert graph.width == 320, "fits a phone"


@pytest.mark.parametrize("lineage", [(ELSEWHERE, TRAINED, SLICES), (SLICES, ELSEWHERE, TRAINED)])
def test_a_model_was_trained_on_its_own_parents(lineage: tuple[dict[str, Any], ...]) -> None:
    graph = _graph(*lineage, maps=OTHER)
    assert (
        "“sdm” was drawn from maps of subsets 0–2 of the slices at s3://lab/other (bbbbbbbb)."
        in graph.sentences
    )
    assert (
        "That model was trained on subsets 0–3 of the slices at s3://lab/slices (aaaaaaaa)."
        in graph.sentences
    )
    # What is compared with stands to the right.
    assert _box_of(graph, "slices: other").left < _box_of(graph, "slices: slices").left


def test_what_has_gone_is_not_drawn() -> None:
    # The maps are of slices that are there, and those that the model saw are not.
    graph = _graph(ELSEWHERE, TRAINED, maps=OTHER)
    assert not any("trained" in " ".join(arrow.label) for arrow in graph.arrows)
    assert not any("trained" in sentence for sentence in graph.sentences)
    nothing = _graph()
    assert [" ".join(arrow.label) for arrow in nothing.arrows] == ["", "compared with subsets 8, 9"]


def test_subsets_in_few_words() -> None:
    assert subsets_words(None) == "all subsets"
    assert subsets_words([7]) == "subset 7"
    assert subsets_words([9, 8]) == "subsets 8, 9"
    assert subsets_words([0, 1, 2, 4, 6, 7, 8, 9]) == "subsets 0–2, 4, 6–9"
