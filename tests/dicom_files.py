"""DICOM files for tests, written with pydicom."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

UID = "1.2.826.0.1.3680043.8.498.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def stored() -> np.ndarray:
    """Stored values of five slices; Hounsfield units are these times the slope minus 1024."""
    return np.random.default_rng(1).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def ct_slice(pixels, position, number=1, *, slope=1.0, orientation=AXIAL, series=UID, **elements) -> Dataset:
    """A slice as a scanner writes it; ``elements`` are set by their keywords, or left out if None."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "CT", series, "1.2.3"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, dataset.SliceThickness = number, 2.5
    if position is not None:
        dataset.ImagePositionPatient = list(position)
        dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing = [0.8, 0.7]  # row distance, then column distance
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, slope
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


def write_slice(path: Path, pixels, position, number=1, **options) -> None:
    """Write a slice; arguments as for ``ct_slice``."""
    pydicom.dcmwrite(path, ct_slice(pixels, position, number, **options), enforce_file_format=True)


def write_series(folder: Path, positions=(-10.0, -7.5, -5.0, -2.5, 0.0), **options) -> Path:
    """Files whose names and instance numbers run against their positions."""
    folder.mkdir(exist_ok=True, parents=True)
    for index, z in enumerate(positions):
        name = folder / f"{len(positions) - index:03d}.dcm"
        write_slice(name, stored()[index % 5], (-100.5, 20.25, z), len(positions) - index, **options)
    return folder


def write_object(path: Path, sop_class: str, modality: str, series: str = "1.2.99") -> None:
    """A DICOM object without an image, such as a report."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.1"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = modality, series, "1.2.3"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
