"""The powers of the package, the rule by which a report takes them, and what it says of them."""

import dataclasses

import pytest

from benchmarks.planted_faults import COPIES, FAULTS
from lungforge.metrics.extractors import EFFICIENTNET_LITE0
from services.eval.measure_sensitivity import powers_at
from services.eval.sensitivity import (
    HEADLINE,
    TITLES,
    DetectionPowers,
    PowerTable,
    Sensitivity,
    package_table,
    sensitivity_sentence,
)
from services.eval.set_results import NotMeasured
from tests.services.reports import SENSITIVITY, fault_power

TABLE = PowerTable(
    "slices",
    EFFICIENTNET_LITE0,
    "command",
    tuple(
        DetectionPowers(images, scans, 40, (fault_power("untouched"), fault_power("blur", kid=power)))
        for images, scans, power in ((25, 20, 0.2), (50, 40, 0.6), (100, 70, 1.0))
    ),
)


@pytest.mark.parametrize(
    ("images", "scans", "taken"),
    [(25, 20, 25), (99, 70, 50), (100, 70, 100), (5000, 900, 100), (5000, 69, 50), (60, 39, 25)],
)
def test_powers_are_those_of_the_nearest_smaller_count_of_images_and_of_scans(images, scans, taken) -> None:
    result = powers_at(images, scans, EFFICIENTNET_LITE0, TABLE)
    assert isinstance(result, Sensitivity)
    assert (result.images, result.scans, result.powers.images) == (images, scans, taken)


@pytest.mark.parametrize(("images", "scans"), [(24, 20), (25, 19), (10_000, 4)])
def test_below_the_smallest_count_nothing_is_claimed(images, scans) -> None:
    result = powers_at(images, scans, EFFICIENTNET_LITE0, TABLE)
    assert isinstance(result, NotMeasured)
    assert result.why_not.endswith("25 images of 20 scans a side")


def test_powers_of_another_networks_features_are_left_out() -> None:
    result = powers_at(100, 70, "inception-v3", TABLE)
    assert isinstance(result, Sensitivity)
    blur = result.powers.faults[1]
    assert (blur.kid, blur.frechet_distance, blur.precision, blur.recall) == (None, None, None, None)
    assert (blur.radiomic_distance, blur.nodule_contrast) == (0.0, 0.0)
    # KID alone saw it.
    assert [fault.fault for fault in result.missed] == ["blur"]


def test_a_fault_is_seen_if_one_measure_of_the_headline_sees_it_nearly_always() -> None:
    assert [fault.fault for fault in SENSITIVITY.seen] == ["+50 HU", "blur 3x3"]
    assert [fault.fault for fault in SENSITIVITY.missed] == ["+25 HU", "mirrored"]
    # Nodule contrast is no measure of the headline.
    assert fault_power("nodules removed", nodule_contrast=1.0).headline == 0
    assert "nodule_contrast" not in HEADLINE


def test_the_sentence_says_what_could_have_been_missed() -> None:
    assert sensitivity_sentence("one", SENSITIVITY) == (
        "In sets as large as “one”, the headline notices +50 HU and blur 3x3 in at least 9 of 10 cases, and "
        "may miss +25 HU (0.50); of copies in 5 % of the slices, it may miss those mirrored (0.75). In "
        "brackets: the share of 40 draws that raised an alarm, at 25 images of 18 scans a side, the nearest "
        "smaller count that was tested (here 40 of 20 scans)."
    )
    unknown = sensitivity_sentence("one", NotMeasured("there are too few scans"))
    assert unknown.endswith("could have missed is not known: there are too few scans.")


def test_nothing_is_said_to_be_missed_where_all_is_seen() -> None:
    powers = dataclasses.replace(SENSITIVITY.powers, faults=SENSITIVITY.powers.faults[:1])
    sentence = sensitivity_sentence("one", dataclasses.replace(SENSITIVITY, powers=powers))
    assert "may miss" not in sentence


def test_the_package_has_the_powers_of_all_planted_faults() -> None:
    table = package_table()
    assert table.extractor == EFFICIENTNET_LITE0
    counts = [(entry.images, entry.scans) for entry in table.entries]
    assert counts == sorted(counts)
    assert 100 in [images for images, _ in counts]
    for entry in table.entries:
        assert [fault.fault for fault in entry.faults] == ["untouched", *FAULTS, *COPIES]
        assert [fault.fault for fault in entry.faults if fault.copies] == list(COPIES)
        for fault in entry.faults:
            assert all(0 <= fault.power(measure) <= 1 for measure in TITLES)
        # False alarms of the tests at 5 %: 8 of 40 draws would be one chance in 1,500.
        assert max(entry.faults[0].power(measure) for measure in HEADLINE) <= 0.2
