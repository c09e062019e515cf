import numpy as np
import pytest

from lungforge.ct.window import hu_to_uint8, hu_to_unit, unit_to_hu
from lungforge.errors import ContentError


def test_the_window_maps_to_the_unit_interval() -> None:
    unit = hu_to_unit(np.array([-3024, -1000, -300, 400, 3000], np.int16))
    assert unit.dtype == np.float32
    assert unit.tolist() == [-1, -1, 0, 1, 1]


def test_every_whole_hounsfield_unit_survives_the_way_there_and_back() -> None:
    hu = np.arange(-1000, 401, dtype=np.int16)
    back = unit_to_hu(hu_to_unit(hu))
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, hu)


def test_what_a_model_overshoots_is_clipped_and_not_wrapped() -> None:
    assert unit_to_hu(np.array([-50.0, -1.0001, 1.2, 1e9], np.float32)).tolist() == [-1000, -1000, 400, 400]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_no_water(value: float) -> None:
    with pytest.raises(ContentError, match="not finite"):
        unit_to_hu(np.array([0.0, value], np.float32))


def test_grey_values_round_to_the_nearest() -> None:
    # One grey value is 1400 / 255 = 5.49 HU.
    assert hu_to_uint8(np.array([-2048, -1000, -998, -997, -300, 400, 1000])).tolist() == [
        0,
        0,
        0,
        1,
        128,
        255,
        255,
    ]
    assert hu_to_uint8(np.array([-160, 40, 240]), (-160, 240)).tolist() == [0, 128, 255]
