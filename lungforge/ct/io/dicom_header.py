"""The header of one DICOM file, read from the first bytes of it.

Tags and their meaning: DICOM PS3.6 and PS3.3 (C.7.6.2 Image Plane, C.11.1 Modality LUT).
"""

import math
import warnings
from dataclasses import dataclass
from io import BytesIO

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial

from lungforge.ct.geometry import Triple, VolumeError
from lungforge.errors import AccessError
from lungforge.storage.reading import file_size, read_range

# Values are read as the bytes that they are and judged here, so pydicom need not warn of them.
config.settings.reading_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")

_HEADS = (16 * 1024, 512 * 1024, 32 * 1024 * 1024)
"""Bytes read of a file, until they hold all that is wanted: icons and private values may come before it."""

_TAGS = {
    "media_sop_class": 0x00020002,
    "sop_class": 0x00080016,
    "instance": 0x00080018,
    "image_type": 0x00080008,
    "modality": 0x00080060,
    "thickness": 0x00180050,
    "study": 0x0020000D,
    "series": 0x0020000E,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "samples": 0x00280002,
    "frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "pixel_spacing": 0x00280030,
    "bits_stored": 0x00280101,
    "signed": 0x00280103,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "rescale_type": 0x00281054,
    "modality_lut": 0x00283000,
}
_LAST = max(_TAGS.values())

Six = tuple[float, float, float, float, float, float]


class NotDicomError(VolumeError):
    """A file is not DICOM."""


@dataclass(frozen=True)
class DicomHeader:
    """What the header of a file says; what is not there is None or empty."""

    uri: str
    sop_class: str
    instance_uid: str
    series_uid: str
    study_uid: str
    modality: str
    image_type: tuple[str, ...]
    size: tuple[int, int] | None
    """Columns and rows; None of what is not an image."""
    frames: int
    samples: int
    position_mm: Triple | None
    orientation: Six | None
    pixel_spacing_mm: tuple[float, float] | None
    """Distance of the columns, and of the rows."""
    thickness_mm: float | None
    rescaled: bool
    """Whether it states how stored values become Hounsfield units."""
    rescale_type: str
    lowest: float
    """The lowest value that a voxel can have."""
    has_modality_lut: bool
    file_bytes: int
    wrong: str | None = None
    """What is wrong with the header, if anything: no slice of a volume may have that."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.uri.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The URI of its folder."""
        return self.uri.rpartition("/")[0]


def read_header(uri: str, size: int | None = None) -> DicomHeader:
    """Read the header of a file.

    Args:
        uri: The file; its preamble of 128 bytes may be missing.
        size: Its bytes, if known.

    Raises:
        NotDicomError: The file is not DICOM.
        VolumeError: It is damaged.
        AccessError: It cannot be read now, or is gone since it was listed.
    """
    try:
        size = file_size(uri) if size is None else size
        head, data = 0, b""
        while True:
            stop = min(_HEADS[head], size)
            data += read_range(uri, len(data), stop)
            whole = stop == size or head == len(_HEADS) - 1
            dataset = _parse(data, whole=whole)
            if dataset is not None:
                header = _header(uri, dataset, size)
                if not header.sop_class.startswith("1.") and not header.series_uid:
                    raise _no_header(data)
                return header
            head += 1
    except FileNotFoundError as error:
        raise AccessError(f"{uri}: gone since it was listed") from error


def _has_magic(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _no_header(data: bytes) -> VolumeError:
    return VolumeError("a damaged DICOM file") if _has_magic(data) else NotDicomError("not a DICOM file")


def _parse(data: bytes, *, whole: bool) -> Dataset | None:
    """The elements of the start of a file; None if it ends before all that are wanted could be there."""
    if not _has_magic(data) and data[:2] not in {b"\x02\x00", b"\x08\x00"}:
        raise NotDicomError("not a DICOM file")
    complete = whole

    def beyond(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal complete
        complete = complete or tag > _LAST
        return tag > _LAST

    try:
        dataset = read_partial(BytesIO(data), beyond, force=True, specific_tags=list(_TAGS.values()))
    except Exception as error:  # a parser fails on bytes of anything in as many ways
        if complete:
            raise _no_header(data) from error
        return None
    return dataset if complete else None


class _Elements:
    """Values of a parsed header as the text that they are written with; notes the first that is wrong."""

    def __init__(self, dataset: Dataset, *, little_endian: bool = True) -> None:
        self._dataset = dataset
        self._little = little_endian
        self.wrong: str | None = None

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of an element, of which there may be none."""
        element = self._dataset.get_item(_TAGS[name], keep_deferred=True)
        value = getattr(element, "value", None)
        if isinstance(value, str):  # pydicom has converted some already
            value = value.encode("latin-1", "replace")
        if not isinstance(value, bytes):
            return ()
        text = value.decode("latin-1").strip("\0 ")
        return tuple(part.strip("\0 ") for part in text.split("\\")) if text else ()

    def text(self, name: str) -> str:
        """The only value of an element, or nothing."""
        return "\\".join(self.texts(name))

    def numbers(
        self, name: str, keyword: str, count: int, *, needed: bool = True
    ) -> tuple[float, ...] | None:
        """So many numbers; None if they are not there or wrong."""
        texts = self.texts(name)
        if not texts:
            return None
        try:
            values = tuple(map(float, texts))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            if needed:
                self.wrong = (
                    self.wrong or f"its {keyword} is {self.text(name)[:40]!r}; {count} numbers are needed"
                )
            return None
        return values

    def number(self, name: str, keyword: str, default: float) -> float:
        """One number."""
        values = self.numbers(name, keyword, 1)
        return default if values is None else values[0]

    def integer(self, name: str, default: int) -> int:
        """One binary number of two bytes."""
        element = self._dataset.get_item(_TAGS[name], keep_deferred=True)
        value = getattr(element, "value", None)
        if not isinstance(value, bytes) or len(value) < 2:
            return default
        return int.from_bytes(value[:2], "little" if self._little else "big")


def _header(uri: str, dataset: Dataset, size: int) -> DicomHeader:
    elements = _Elements(dataset, little_endian=dataset.original_encoding[1] is not False)
    sop_class = elements.text("sop_class") or _Elements(dataset.file_meta).text("media_sop_class")
    rows, columns = elements.integer("rows", 0), elements.integer("columns", 0)
    position = elements.numbers("position", "ImagePositionPatient", 3)
    orientation = elements.numbers("orientation", "ImageOrientationPatient", 6)
    spacing = elements.numbers("pixel_spacing", "PixelSpacing", 2)
    thickness = elements.numbers("thickness", "SliceThickness", 1, needed=False)
    slope = elements.number("slope", "RescaleSlope", 1.0)
    intercept = elements.number("intercept", "RescaleIntercept", 0.0)
    bits = min(max(elements.integer("bits_stored", 16), 1), 32)
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if elements.integer("signed", 0) else (0, 2**bits - 1)
    return DicomHeader(
        uri=uri,
        sop_class=sop_class,
        instance_uid=elements.text("instance"),
        series_uid=elements.text("series"),
        study_uid=elements.text("study"),
        modality=elements.text("modality").upper(),
        image_type=tuple(text.upper() for text in elements.texts("image_type")),
        size=(columns, rows) if rows and columns else None,
        frames=int(elements.number("frames", "NumberOfFrames", 1.0)),
        samples=elements.integer("samples", 1),
        position_mm=None if position is None else (position[0], position[1], position[2]),
        orientation=None if orientation is None else tuple(orientation),  # type: ignore[arg-type]
        pixel_spacing_mm=None if spacing is None else (spacing[1], spacing[0]),
        thickness_mm=None if thickness is None else thickness[0],
        rescaled=bool(elements.texts("intercept")),
        rescale_type=elements.text("rescale_type").upper(),
        lowest=min(value * slope + intercept for value in stored),
        has_modality_lut=_TAGS["modality_lut"] in dataset,
        file_bytes=size,
        wrong=elements.wrong,
    )
