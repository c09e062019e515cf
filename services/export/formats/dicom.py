"""CT images and segmentations of the map, as DICOM.

A slice is a CT Image (PS3.3 A.3) with HU as stored values, and its map a Segmentation (PS3.3 A.51) with a
segment per class. UIDs are new and depend on the dataset and the row alone, so an export that is run again
has the same. A synthetic image says so by Synthetic Data (0008,001C), its image type, its description and its
patient's name.
"""

import io
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from lungforge import __version__
from lungforge.ct import classes
from lungforge.ct.io.patient_table import scan_of
from lungforge.extras import require_extra
from services.export.formats.base import ExportFormat, Files
from services.export.rows import Item, file_safe

#: Category and type of each class, as SNOMED CT has them.
_CODES = {
    classes.BODY: (codes.SCT.AnatomicalStructure, Code("38266002", "SCT", "Entire body")),
    classes.LEFT_LUNG: (codes.SCT.AnatomicalStructure, Code("44029006", "SCT", "Left lung")),
    classes.RIGHT_LUNG: (codes.SCT.AnatomicalStructure, Code("3341006", "SCT", "Right lung")),
    classes.TRACHEA: (codes.SCT.AnatomicalStructure, codes.SCT.Trachea),
    classes.NODULE: (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Nodule),
}
#: Characters of DICOM's long strings (LO) and short strings (SH).
_LONG, _SHORT = 64, 16
#: No time is known, and none may be invented: the same export is the same bytes.
_NO_DATE, _NO_TIME = "19000101", "000000"


class Dicom(ExportFormat):
    """``NAME_ct.dcm`` and ``NAME_seg.dcm``."""

    crops_lack = "spacing"

    def __init__(self, config: Any) -> None:
        require_extra("highdicom", "dicom", "--format dicom")
        import highdicom

        super().__init__(config)
        self._highdicom = highdicom

    def encode(self, item: Item) -> Files:
        """The image, and the segmentation where the map shows more than background."""
        ct = ct_image(item)
        files = {f"{item.name}_ct.dcm": _bytes(ct)}
        if item.row["label"].any():
            files[f"{item.name}_seg.dcm"] = _bytes(self._segmentation(item, ct))
        return files

    def _segmentation(self, item: Item, ct: Dataset) -> Dataset:
        """Segments of the classes that the map shows, numbered by their class."""
        hd = self._highdicom
        label = item.row["label"]
        shown = [value for value in _CODES if (label == value).any()]
        algorithm = hd.AlgorithmIdentificationSequence(
            name="LungForge", version=__version__, family=codes.DCM.MorphologicalOperations
        )
        segments = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=classes.NAMES[value],
                segmented_property_category=_CODES[value][0],
                segmented_property_type=_CODES[value][1],
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                algorithm_identification=algorithm,
                display_color=hd.color.CIELabColor.from_rgb(*classes.COLOURS[value]),
            )
            for number, value in enumerate(shown, 1)
        ]
        made = hd.seg.Segmentation(
            source_images=[ct],
            pixel_array=np.stack([label == value for value in shown], axis=-1)[None],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=_uid(item, "segmentation series", _scan(item)),
            series_number=2,
            sop_instance_uid=_uid(item, "segmentation", item.name),
            instance_number=int(ct.InstanceNumber),
            manufacturer="LungForge",
            manufacturer_model_name="LungForge",
            software_versions=__version__,
            device_serial_number=item.dataset.manifest_sha256[:_LONG],
            content_label="MAP",
            content_description="semantic map",
            series_description=_description(item, "map"),
        )
        _make_repeatable(made, _uid(item, "dimensions", item.name))
        return made


def ct_image(item: Item) -> Dataset:
    """A slice as a CT image: rows, columns and place as in the dataset, HU without loss.

    The position is that of the dataset's own frame: the first pixel at x = y = 0, and z of the scan (0 for a
    synthetic slice).
    """
    image, (row_mm, column_mm) = item.row["image"], item.spacing_mm
    ct = Dataset()
    ct.SOPClassUID = CTImageStorage
    ct.SOPInstanceUID = _uid(item, "image", item.name)
    ct.StudyInstanceUID = _uid(item, "study", _scan(item))
    ct.SeriesInstanceUID = _uid(item, "series", _scan(item))
    ct.FrameOfReferenceUID = _uid(item, "frame of reference", _scan(item))
    ct.PositionReferenceIndicator = ""
    ct.ImageType = ["DERIVED", "SECONDARY" if item.synthetic else "PRIMARY", "AXIAL"]
    ct.SyntheticData = "YES" if item.synthetic else "NO"
    ct.PatientName = f"{'SYNTHETIC' if item.synthetic else 'REAL'}^LungForge"
    ct.PatientID = _patient_id(item)
    ct.PatientBirthDate = ct.PatientSex = ""
    ct.StudyDate = ct.StudyTime = ct.ReferringPhysicianName = ct.AccessionNumber = ""
    ct.StudyID = item.dataset.manifest_sha256[:_SHORT]
    ct.Modality = "CT"
    ct.SeriesNumber = 1
    ct.SeriesDescription = _description(item, "CT")
    ct.Manufacturer = ct.ManufacturerModelName = "LungForge"
    ct.SoftwareVersions = item.dataset.manifest.code_version
    ct.BodyPartExamined = "CHEST"
    ct.PatientPosition = "HFS"
    ct.ImageComments = "; ".join(filter(None, (item.marker and f"Synthetic: {item.marker}", item.origin)))
    ct.AcquisitionNumber = ct.KVP = None
    ct.SliceThickness = 1  # not known; viewers and highdicom need one
    ct.InstanceNumber = item.slice_index + 1
    ct.ImagePositionPatient = [0, 0, round(item.z_mm, 4)]
    ct.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    # Decimal strings hold 16 characters.
    ct.PixelSpacing = [f"{row_mm:.10g}", f"{column_mm:.10g}"]
    ct.Rows, ct.Columns = image.shape
    ct.SamplesPerPixel = 1
    ct.PhotometricInterpretation = "MONOCHROME2"
    ct.BitsAllocated = ct.BitsStored = 16
    ct.HighBit = 15
    ct.PixelRepresentation = 1
    ct.RescaleIntercept, ct.RescaleSlope, ct.RescaleType = 0, 1, "HU"
    ct.WindowCenter, ct.WindowWidth = [-600, 40], [1500, 400]
    ct.WindowCenterWidthExplanation = ["LUNG", "SOFT TISSUE"]
    ct.PixelData = image.astype("<i2").tobytes()
    ct["PixelData"].VR = "OW"
    ct.file_meta = FileMetaDataset()
    ct.file_meta.MediaStorageSOPClassUID = ct.SOPClassUID
    ct.file_meta.MediaStorageSOPInstanceUID = ct.SOPInstanceUID
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ct


def _scan(item: Item) -> str:
    """What a series stands for: the scan; of a synthetic slice itself, as it belongs to no scan."""
    return file_safe(item.row["sample_id"]) if item.synthetic else scan_of(item.series_uid)


def _patient_id(item: Item) -> str:
    """As long as a long string may be; ids differ at their ends."""
    mark = "SYNTHETIC-" if item.synthetic else ""
    return mark + _scan(item)[-(_LONG - len(mark)) :]


def _uid(item: Item, *what: str) -> str:
    return str(generate_uid(entropy_srcs=["LungForge export", item.dataset.manifest_sha256, *what]))


def _description(item: Item, content: str) -> str:
    return f"{'SYNTHETIC ' if item.synthetic else ''}{content}, LungForge {__version__}"[:_LONG]


def _make_repeatable(made: Dataset, dimensions_uid: str) -> None:
    """Replace the times and the random UID that highdicom puts in."""
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.pop("ContributionDateTime", None)
    for element in made.iterall():
        match element.keyword:
            case "DimensionOrganizationUID":
                element.value = dimensions_uid
            case "ContentDate" | "SeriesDate" | "InstanceCreationDate":
                element.value = _NO_DATE
            case "ContentTime" | "SeriesTime" | "InstanceCreationTime":
                element.value = _NO_TIME


def _bytes(made: Dataset) -> bytes:
    file = io.BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()
