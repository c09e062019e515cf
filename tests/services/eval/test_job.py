import dataclasses
import html
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from lungforge.metrics.features import load_extractor
from lungforge.metrics.hu_gate import GateCounts
from services.eval import job
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.results import EvaluationReport
from services.eval.set_results import HounsfieldSummary, NotMeasured

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def config(world):
    return EvalConfig(
        real=str(world / "slices"), synthetic=(str(world / "drawn"),), out=str(world / "report"), subsets=(3,)
    )


class ReportPage(HTMLParser):
    """What a browser would load or outline."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.images.append(values)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        self.links += [values[name] for name in ("href", "src", "action") if name in values]


def test_results_come_with_their_counts_baseline_and_extractor(report):
    (results,) = report.sets
    assert (report.real.images, report.real.scans, results.images) == (6, 3, 18)
    assert report.extractor.name == "efficientnet-lite0"
    baseline = results.frechet.baseline
    assert baseline.images == 2  # of three scans of two slices the smaller half is one
    assert baseline.real_mean > 0
    assert any("below 2048" in warning for warning in report.warnings)
    assert results.generated_with.sampler == "ancestral"
    assert results.generated_with.hu_gate == GateCounts(resampled=9, retries=9, outside=0)


def test_fidelity_is_read_from_the_maps(report):
    (results,) = report.sets
    rows = {row.class_name: row for row in results.hounsfield_units}
    for side in ("real", "synthetic"):
        assert getattr(rows["left lung"], side).median == pytest.approx(-830, abs=10)
        assert getattr(rows["body"], side).median == pytest.approx(30, abs=10)
        assert getattr(rows["trachea"], side) == HounsfieldSummary(0, None, None, None)
        assert getattr(results.nodule_contrast_hu, side).median == pytest.approx(850, abs=60)
    assert results.nodule_contrast_hu.real.nodules == 6


def test_precision_and_recall_come_with_their_counts_and_k(report):
    shares = report.sets[0].precision_recall
    assert (shares.neighbour, shares.real_images, shares.synthetic_images) == (3, 6, 18)
    for measure in (shares.precision, shares.recall):
        assert 0 <= measure.value <= 1
        assert measure.baseline is None  # two images a side have no third nearest


def test_body_and_lungs_are_segmented_where_the_map_has_them(report):
    body, lungs = report.sets[0].map_agreement.structures
    for side, images in (("real", 6), ("synthetic", 18)):
        assert getattr(body, side).images == getattr(lungs, side).images == images
        assert getattr(body, side).percentile_5 > 0.95
        assert getattr(lungs, side).percentile_5 > 0.85


def test_memorisation_compares_with_the_slices_that_the_generator_saw(report):
    memory = report.sets[0].memorisation
    assert memory.training_images == 18  # subsets 0 to 2, not the six slices to compare with
    assert (memory.synthetic.images, memory.held_out.images) == (18, 6)
    assert memory.interval_95_percent[0] <= memory.ratio <= memory.interval_95_percent[1]
    assert 0 <= memory.tail_interval_95_percent[0] <= memory.tail_share <= memory.tail_interval_95_percent[1]
    assert [pair.distance for pair in memory.worst] == sorted(pair.distance for pair in memory.worst)
    assert len(memory.worst) == 4
    assert any("nearest training slice" in sentence for sentence in report.verdict)


def test_generated_slices_trip_no_guard_and_were_compared_with_their_source(report):
    duplicates = report.sets[0].near_duplicates
    assert (duplicates.checked, duplicates.count) == (18, 0)
    assert (duplicates.false_alarms.checked, duplicates.false_alarms.count) == (6, 0)
    assert not any("the source of" in warning for warning in report.warnings)


def test_the_report_is_one_file_that_needs_no_network(result):
    text = Path(result.report).read_text(encoding="utf-8")
    page = ReportPage(text)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert all(f'id="{link[1:]}"' in text for link in page.links if link.startswith("#"))
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert len(page.images) == 8 * 3 + 4 * 3 + 2 * 4 * 2
    assert all(image["alt"] for image in page.images)
    assert page.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    for sentence in result.verdict:
        assert sentence in html.unescape(text)


def test_the_report_is_a_dataset_with_its_lineage(result, config, world):
    report = Dataset.open(config.out, Kind.REPORT)
    report.verify()
    assert [parent.uri for parent in report.manifest.parents] == [str(world / "slices"), str(world / "drawn")]
    assert report.read_file("report.html") == Path(result.report).read_bytes()


def test_the_same_again_writes_nothing_and_gives_the_same(result, config):
    before = {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")}
    again = job.run(config)
    assert {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")} == before
    assert dataclasses.replace(again, written=True) == result
    assert not again.written


def test_the_bytes_do_not_depend_on_the_workers(result, config, tmp_path):
    other = job.run(dataclasses.replace(config, out=str(tmp_path / "report"), workers=1))
    assert Path(other.metrics).read_bytes() == Path(result.metrics).read_bytes()
    assert Path(other.report).read_bytes() == Path(result.report).read_bytes()


def results_of(shown):
    """The results on the only set of an evaluation."""
    (results,) = EvaluationReport.from_json(Path(shown.metrics).read_bytes()).sets
    return results


def test_halved_and_enlarged_real_slices_are_refused_all_of_them(ray_local, config, world, tmp_path):
    copies = dataclasses.replace(config, synthetic=(str(world / "copies"),), out=str(tmp_path / "report"))
    with pytest.raises(InputError, match=r"18 of 18 synthetic slices are near-duplicates .*scan-00"):
        job.run(copies)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"features"}
    shown = job.run(dataclasses.replace(copies, allow_near_duplicates=True))
    assert shown.near_duplicates == 18
    assert len(shown.verdict) == 1
    assert shown.verdict[0].startswith("18 of 18 slices of “copies” are near-duplicates")
    assert any("Near-duplicate guard switched off" in warning for warning in shown.warnings)


def test_slices_that_no_working_generator_samples_are_said(ray_local, config, world, tmp_path, build):
    """Those that are water everywhere, as a network of NaN gave, and those of values that no CT has."""

    def broken(row, number):
        image = build["drawn"](row, number)
        if number in (2, 9):
            return np.zeros_like(image)
        if number == 11:
            image[3, 4] = 32767
        return image

    slices = Dataset.open(str(world / "slices"), Kind.SLICES)
    model = Dataset.open(str(world / "model"), Kind.MODEL)
    samples = build["samples"](str(tmp_path / "broken"), slices, model, broken)
    shown = job.run(dataclasses.replace(config, synthetic=(samples.uri,), out=str(tmp_path / "report")))
    assert [warning for warning in shown.warnings if "is broken" in warning] == [
        "broken: slices with the same value everywhere: 2, such as scan-01_0000_r0; "
        "the generator or the export is broken.",
        "broken: slices with values outside -3024 to 20000 HU: 1, such as scan-06_0001_r0; "
        "the generator or the export is broken.",
    ]


def test_training_slices_learnt_by_heart_have_a_ratio_far_below_1(ray_local, config, world, tmp_path, build):
    slices, model = Dataset.open(str(world / "slices")), Dataset.open(str(world / "model"))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["remembered"])
    shown = job.run(
        dataclasses.replace(
            config, synthetic=(samples.uri,), out=str(tmp_path / "report"), allow_near_duplicates=True
        )
    )
    memory = results_of(shown).memorisation
    assert memory.nearest_is_source == 18
    assert memory.interval_95_percent[1] < 0.8
    assert memory.closer_than_5_percent == 1.0


def test_of_patches_is_not_measured_what_needs_whole_slices(ray_local, config, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, patch=64)
    samples = build["samples"](str(tmp_path / "patches"), slices, model, build["drawn"])
    shown = job.run(dataclasses.replace(config, synthetic=(samples.uri,), out=str(tmp_path / "report")))
    results = results_of(shown)
    for measure in (results.map_agreement, results.memorisation):
        assert isinstance(measure, NotMeasured)
        assert "patches" in measure.why_not
    assert results.frechet.value > 0
    assert "not measured: the images are patches" in Path(shown.report).read_text(encoding="utf-8")


def test_patches_are_compared_with_patches_of_real_slices(ray_local, config, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, patch=32)
    drawn = build["samples"](str(tmp_path / "patches"), slices, model, build["drawn"], patch=32)
    cache = str(tmp_path / "features")
    shown = job.run(
        dataclasses.replace(config, synthetic=(drawn.uri,), out=str(tmp_path / "report"), features=cache)
    )
    results = results_of(shown)
    assert shown.near_duplicates == 0
    assert results.near_duplicates.checked == 18
    assert (results.frechet.real_images, results.frechet.synthetic_images) == (6, 18)
    assert results.map_agreement.why_not.startswith("the images are patches")
    assert results.memorisation.training_images == 18
    # A patch of another cut is another picture; the cache must not give the whole slices' features.
    other = dataclasses.replace(
        config, synthetic=(drawn.uri,), out=str(tmp_path / "other"), seed=1, features=cache
    )
    cached = results_of(job.run(other))
    plain = dataclasses.replace(other, out=str(tmp_path / "plain"), features=None)
    assert results_of(job.run(plain)) == cached
    assert cached.frechet.value != results.frechet.value


def test_a_patch_that_is_the_real_one_of_its_place_is_a_near_duplicate(
    ray_local, config, world, tmp_path, build
):
    # The patch lies elsewhere than the one that stands for the slice: only its place gives it away.
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, patch=32)
    copies = build["samples"](str(tmp_path / "copies"), slices, model, build["copied"], patch=32)
    with pytest.raises(InputError, match=r"18 of 18"):
        job.run(dataclasses.replace(config, synthetic=(copies.uri,), out=str(tmp_path / "report")))


def test_patches_and_whole_slices_are_not_compared(config, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, patch=32)
    patches = build["samples"](str(tmp_path / "patches"), slices, model, build["drawn"], patch=32)
    both = dataclasses.replace(
        config, synthetic=(patches.uri, str(world / "drawn")), out=str(tmp_path / "no")
    )
    with pytest.raises(InputError, match=r"of several kinds \(.*\); evaluate each kind by itself"):
        job.run(both)


def test_with_cached_features_the_report_is_the_same_to_the_last_byte(result, config, tmp_path):
    cache = tmp_path / "features"
    for turn in ("first", "second"):
        again = job.run(dataclasses.replace(config, out=str(tmp_path / turn), features=str(cache)))
        assert Path(again.metrics).read_bytes() == Path(result.metrics).read_bytes()
        assert Path(again.report).read_bytes() == Path(result.report).read_bytes()
        files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        if turn == "first":
            written = files
    # Of the network's features a file for each part of real and of synthetic slices; of the radiomic ones for
    # those that are compared.
    assert len(written) == (12 + 3) + (3 + 3)
    assert files == written


def test_leakage_is_refused_before_any_work(config, monkeypatch, tmp_path):
    monkeypatch.setattr(job, "load_extractor", None)
    with pytest.raises(InputError, match=r"trained on 6 of the 9 scans.*--subsets"):
        job.run(dataclasses.replace(config, subsets=(1, 2, 3), out=str(tmp_path / "report")))


def test_the_wrong_kind_of_dataset_is_named(config, world):
    with pytest.raises(InputError, match=r"a slices dataset.*a samples dataset is needed"):
        job.run(dataclasses.replace(config, synthetic=(str(world / "slices"),)))


def test_the_cache_and_the_weights_reach_the_tasks(ray_local, config, monkeypatch, tmp_path):
    description = load_extractor("efficientnet-lite0").description
    networks = []

    def read_real(config, network, *_):
        networks.append(network)
        raise InputError("enough")

    monkeypatch.setattr(job, "read_real", read_real)
    monkeypatch.setattr(job, "load_extractor", lambda name, weights: SimpleNamespace(description=description))
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"weights")
    given = {"extractor": "inception-v3", "weights": str(weights)}
    for changes in ({"features": "s3://lab/features"}, given):
        with pytest.raises(InputError, match="enough"):
            job.run(dataclasses.replace(config, out=str(tmp_path / "none"), **changes))
    assert networks == [
        Network(description, None, "s3://lab/features"),
        Network(description, str(weights), str(tmp_path / "none" / "features")),
    ]
