"""The identity of an image: what decides its noise, and so tells it from all others of a model."""

from lungforge.ct.edits import EditName
from lungforge.models.base import Identity


def image_identity(
    seed: int, series_uid: str, slice_index: int, replicate: int, edit: EditName, *, inpainted: bool = False
) -> Identity:
    """The identity of an image that is sampled from the map of a slice.

    Args:
        seed: Of the job or the call.
        series_uid: The scan that the map is of.
        slice_index: Its slice.
        replicate: Which of the map's images it is, from 0.
        edit: What was done to the map.
        inpainted: Whether only the surroundings of the edit are sampled.
    """
    return (seed, series_uid, slice_index, replicate, f"{edit}, inpainted" if inpainted else edit)
