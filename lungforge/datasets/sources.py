"""Public data that slices come from: how to recognise them, their licences, and what they leave out."""

from typing import Any

#: All series of LIDC-IDRI, of which LUNA16 is made, have UIDs below this one.
_LIDC_ROOT = "1.3.6.1.4.1.14519.5.2.1.6279.6001."

LICENCE = "CC BY 4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
ATTRIBUTION = (
    "LUNA16 (Setio et al., Medical Image Analysis 2017, doi:10.1016/j.media.2017.06.015), made of LIDC-IDRI "
    "(Armato et al., Medical Physics 2011, doi:10.1118/1.3528204)"
)

UNANNOTATED = (
    "LUNA16 leaves most masses of 30 mm and more unannotated: they are in the images, not in the maps"
)
"""What a reader of its slices has to know: a mass without a nodule in the map is no error of the map."""

SOURCES: list[dict[str, Any]] = [
    {
        "name": "LUNA16",
        "licence": LICENCE,
        "cite": "Setio et al., Medical Image Analysis 2017, doi:10.1016/j.media.2017.06.015",
    },
    {
        "name": "LIDC-IDRI",
        "licence": "CC BY 3.0",
        "cite": "Armato et al., Medical Physics 2011, doi:10.1118/1.3528204",
    },
]


def from_luna16(series_uid: str) -> bool:
    """Whether a scan is one of LIDC-IDRI, and so its images, maps and nodules come from LUNA16."""
    return series_uid.startswith(_LIDC_ROOT)
