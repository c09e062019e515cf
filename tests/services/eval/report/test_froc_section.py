"""An evaluation with --froc as a whole: its results and its table in the report."""

from pathlib import Path

import pytest

from services.eval.config import EvalConfig

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def config(world):
    return EvalConfig(
        real=str(world / "slices"),
        synthetic=(str(world / "drawn"),),
        out=str(world / "report"),
        subsets=(3,),
        downstream="tiny",
        train_subsets=(0, 1, 2),
        seeds=2,
        tasks=("localisation",),
        froc=True,
    )


def test_every_arm_has_a_score(report) -> None:
    froc = report.downstream.froc
    assert (froc.scans, froc.slices, froc.nodules, froc.networks_per_arm) == (3, 6, 3, 2)
    assert [arm.key for arm in froc.arms] == [arm.key for arm in report.downstream.tasks[0].arms]
    for arm in froc.arms:
        assert 0 <= arm.score.cpm_low <= arm.score.cpm <= arm.score.cpm_high <= 1
        assert len(arm.score.points) == 7
    # In the map of the last scan alone the nodule is within its radius of 0.3 px of its place in the row;
    # with that hit come two false positives.
    assert froc.true_boxes.cpm == pytest.approx((1 / 16 + 1 / 8 + 1 / 4 + 4 / 3) / 7)


def test_the_report_shows_them(result, report) -> None:
    page = Path(result.report).read_text(encoding="utf-8")
    assert page.count('<th scope="col">CPM</th>') == 1
    assert "run on all 6 slices of 3 test scans with 3 nodules" in page
    for arm in report.downstream.froc.arms:
        assert f'<th scope="row">{arm.name}</th><td>{arm.score.cpm:.3f}' in page
    assert "--froc" in report.command
    arm = report.downstream.froc.arms[0]
    (sentence,) = [
        one for one in report.verdict if one.startswith("Detection in whole scans, CPM over 3 scans")
    ]
    score = f"{arm.name} {arm.score.cpm:.3f} ({arm.score.cpm_low:.3f} to {arm.score.cpm_high:.3f})"
    assert score in sentence
