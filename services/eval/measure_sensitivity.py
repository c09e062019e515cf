"""The detection powers that hold for the sets of a report."""

from dataclasses import replace

from lungforge.metrics.extractors import Description
from services.eval.records import MeasuredSlices
from services.eval.sensitivity import PowerTable, Sensitivity, package_table
from services.eval.set_results import NotMeasured, RadiomicResult


def sensitivity_of(
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    radiomic: RadiomicResult | NotMeasured,
    extractor: Description,
    *,
    phantoms: bool,
    patches: bool,
) -> Sensitivity | NotMeasured:
    """Which planted faults the measures of a set could have seen.

    Args:
        real: Slices to compare with.
        synthetic: Slices of the set.
        radiomic: Their radiomic distance.
        extractor: The network of the report.
        phantoms: Whether the real slices are phantoms.
        patches: Whether the images are patches.
    """
    if phantoms:
        return NotMeasured("the slices to compare with are phantoms, and powers are known for CT only")
    if patches:
        return NotMeasured("the images are patches of slices, and powers are known for whole slices only")
    if isinstance(radiomic, NotMeasured) or radiomic.p_value is None:
        return NotMeasured("there are too few slices or scans for a test")
    return powers_at(
        min(len(real.features), len(synthetic.features)),
        min(len(set(real.scans)), len(set(synthetic.scans))),
        extractor.name,
        package_table(),
    )


def powers_at(images: int, scans: int, extractor: str, table: PowerTable) -> Sensitivity | NotMeasured:
    """The powers at the largest tabled count of images and scans that a comparison reaches.

    Powers grow with the counts, so those at a smaller count promise nothing that a comparison does not keep.

    Args:
        images: Of the smaller side.
        scans: Of the side with fewer: tests permute whole scans, so slices of few scans show less.
        extractor: The network of the report; powers of another one's features are left out.
        table: The powers.
    """
    reached = [entry for entry in table.entries if entry.images <= images and entry.scans <= scans]
    if not reached:
        least = table.entries[0]
        return NotMeasured(
            f"the smallest sets whose powers are known are {least.images} images of {least.scans} scans "
            "a side"
        )
    entry = reached[-1]
    if extractor != table.extractor:
        faults = tuple(
            replace(fault, kid=None, frechet_distance=None, precision=None, recall=None)
            for fault in entry.faults
        )
        entry = replace(entry, faults=faults)
    return Sensitivity(images, scans, table.data, entry)
