"""The check of words that `make lint` runs."""

import pytest

from tests.docs.site import tool

glossary = tool("glossary")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("a batch is cut into pieces", "micro-batches"),
        ("--pieces 4", "gradient accumulation"),
        ("the map drop of training", "condition dropout"),
        ("--average-decay 0.99", "EMA decay"),
        ("--clip 1.0", "max grad norm"),
        ("The Painter paints", "generator or sampler"),
        ("eight drawn thoraxes", "synthetic phantoms"),
        ("draws new synthetic slices", "sample or generate"),
        ("wear the mask by a pixel", "erode"),
        ("grow the mask by a pixel", "dilate"),
        ("start_at_zero=True", "zero_init"),
        ("it has 3 twins", "near-duplicates"),
        ("near-copies", "near-duplicates"),
        ("below the real floor", "real-vs-real baseline"),
        ("the kernel distance", "KID"),
        ("the desk asks the workers", "coordinator"),
        ("the user is\ntold at once", "said, reported or named"),
        ("alpha_left", "alpha_bar"),
        ("a job is handed in", "submitted"),
        ("it raises a Ray cluster", "start a cluster"),
        ("see what it comes to", "results"),
        ("the job goes on", "resumes or continues"),
        ("scores held against the baseline", "compared with"),
    ],
)
def test_a_word_that_the_field_does_not_use_is_named_with_its_replacement(text: str, instead: str) -> None:
    (problem,) = glossary.problems("docs/page.md", f"first line\n{text}\n")
    assert problem.startswith("docs/page.md:2: ")
    assert problem.endswith(f"; write {instead}")


@pytest.mark.parametrize(
    "text",
    [
        "np.clip(np.floor(x), 0, 1)",
        "the curves are drawn in one picture; 1,000 draws with replacement",
        "series are told apart by their uid; the error tells which",
        "put together, the parts of a list grow",
        "a convolution kernel of 3 x 3",
        "raises a ValueError",
        "patches are cut around nodules; a piece of text",
    ],
)
def test_everyday_english_passes(text: str) -> None:
    assert list(glossary.problems("lungforge/module.py", text)) == []


def test_files_are_named_after_what_is_in_them() -> None:
    assert len(list(glossary.problems("services/train/desk.py", ""))) == 1
    assert list(glossary.problems("services/train/coordinator.py", "")) == []


def test_the_project_keeps_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert (glossary.main(), capsys.readouterr().out) == (0, "")
