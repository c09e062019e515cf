"""The model card of a pretrained model: what it is, what it was made of, how good it is, and its limits."""

import dataclasses
from collections.abc import Sequence

from benchmarks.shipped.measures import measures
from lungforge.ct.io.patient_table import scan_of
from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDataset
from services.eval.results import EvaluationReport, SetResults

_OBJECTIVES = {
    "edm": "edm: the image, preconditioned (Karras et al. 2022, arXiv 2206.00364)",
    "eps": "eps: the noise, with learned variance (Nichol and Dhariwal 2021, arXiv 2102.09672)",
}

_LIMITS = """\
## Intended use

Research and teaching: trying LungForge, testing pipelines, and as a baseline for generators of chest CT.

## What it must not be used for

- Diagnosis, treatment, or anything else that concerns a patient. It is no medical device.
- Claims of clinical performance, such as of a detector that was trained or tested on its images.
- In the place of real scans without saying so. Its images are synthetic, and LungForge marks them as such.
- Images of another resolution, of other organs, of other modalities or of children: it has seen none.
- Structures smaller than a pixel: they are not there."""

_LICENCE = """\
## Licence and attribution

[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). The weights are made of
[LUNA16](https://luna16.grand-challenge.org) (CC BY 4.0), itself made of LIDC-IDRI (CC BY 3.0); cite Setio et
al., Medical Image Analysis 42 (2017), doi:10.1016/j.media.2017.06.015, and Armato et al., Medical Physics 38
(2011), doi:10.1118/1.3528204. Changed: a generator was trained on slices and label maps of these scans."""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What the card of a pretrained model says.

    Attributes:
        name: Of the model; its URI is ``lungforge://NAME``.
        model: The model that comes with LungForge.
        original_sha256: Of the manifest of the model that it is a copy of.
        parameters: How many weights.
        minutes: That it was trained for, and on what: "180 on two cores".
        report: An evaluation of samples of the model or of its original; None before there is one.
    """

    name: str
    model: ModelDataset
    original_sha256: str
    parameters: int
    minutes: str
    report: EvaluationReport | None

    def to_markdown(self) -> str:
        """The card as Markdown.

        Raises:
            InputError: The report does not have exactly one set of samples of this model, or was made with
                the leak guard switched off, or with phantoms.
        """
        sections = [*self._head(), *self._data(), *self._sampling(), *self._measures(), _LIMITS, "", _LICENCE]
        return "\n".join(sections) + "\n"

    def results(self) -> SetResults | None:
        """The results on the samples of this model; raises as ``to_markdown`` does."""
        if self.report is None:
            return None
        known = {self.original_sha256, self.model.dataset.manifest_sha256}
        sets = [
            of_set
            for of_set in self.report.sets
            if any(each.kind == "model" and each.manifest_sha256 in known for each in of_set.lineage)
        ]
        if len(sets) != 1:
            raise InputError(
                f"the report has {len(sets)} sets of samples of {self.name}; evaluate one, sampled with the "
                "model or with its original"
            )
        if self.report.leakage_allowed or self.report.real.origin == "phantoms":
            raise InputError("the report compares with training scans or phantoms; evaluate on unseen scans")
        return sets[0]

    def _head(self) -> list[str]:
        details, config = self.model.details, self.model.config
        kind = "whole slices" if details.patch is None else "patches around nodules, at native resolution,"
        dtype = self.model.dataset.manifest.config["weights"]
        megabytes = self.model.dataset.manifest.nbytes / 1e6
        objective = getattr(config, "objective", None)
        return [
            f"# {self.name}: synthetic chest CT, {config.image_size} px",
            "",
            f"Makes {kind} of {config.image_size} x {config.image_size} px from label maps.",
            "",
            "| | |",
            "|---|---|",
            f"| generator | {self.model.spec.summary} (`{self.model.spec.name}`) |",
            *([f"| objective | {_OBJECTIVES[objective]} |"] if objective else []),
            f"| parameters | {self.parameters:,}, stored as {dtype}, used as float32 ({megabytes:.1f} MB) |",
            f"| training | {details.steps:,} steps, minutes: {self.minutes} |",
            f"| trained with | LungForge {self.model.dataset.manifest.code_version} |",
            f"| manifest sha256 | `{self.model.dataset.manifest_sha256}` |",
            f"| original's manifest sha256 | `{self.original_sha256}` |",
            "",
        ]

    def _data(self) -> list[str]:
        details = self.model.details
        scans = {scan_of(series) for series in details.series_uids or ()}
        return [
            "## Data",
            "",
            f"{details.rows} slices of {len(scans)} scans of LUNA16, {_subsets(details.subsets)}: HU, and "
            f"maps of {details.classes} classes (background, body, left lung, right lung, trachea, nodule). "
            "`manifest.json` names every scan, and evaluation keeps them apart.",
            "",
        ]

    def _sampling(self) -> list[str]:
        options = self.model.spec.sampling(self.model.config, SamplingOptions())
        values = {name: value for name, value in vars(options).items() if value is not None}
        words = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in values.items())
        return [
            "## Sampling",
            "",
            f"`lungforge sample --model lungforge://{self.name} --data SLICES --out samples`. "
            + (f"Defaults: {words}." if words else "One pass of the network; there is nothing to choose."),
            "",
        ]

    def _measures(self) -> list[str]:
        results = self.results()
        if self.report is None or results is None:
            return ["## Measures", "", "Not measured yet.", ""]
        real, made = self.report.real, results.generated_with
        copied = any(each.manifest_sha256 == self.model.dataset.manifest_sha256 for each in results.lineage)
        weights = "these weights" if copied else "the original, before its weights were rounded"
        return [
            "## Measures",
            "",
            f"Of {weights}, by `lungforge evaluate` on {self.report.date}: {results.images} samples from "
            f"maps of {results.source_scans} scans against {real.images} real slices of {real.scans} scans, "
            f"{_subsets(real.subsets)}, none of them seen in training. Sampler {made.sampler}, {made.steps} "
            f"steps, guidance {made.guidance:g}. Features of {self.report.extractor.name}. Real against real "
            "is what a perfect generator would reach.",
            "",
            *measures(results),
            "",
        ]


def _subsets(subsets: Sequence[int] | None) -> str:
    return "all subsets" if subsets is None else f"subsets {' '.join(map(str, subsets))}"


def _plain(value: object) -> str:
    return " to ".join(map(str, value)) if isinstance(value, tuple) else str(value)
