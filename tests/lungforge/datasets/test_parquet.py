import io

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.datasets import Kind, table_from_rows
from lungforge.datasets.parquet import decode_own, encode
from tests.factories import crop_row


def crops(count: int):
    generator = np.random.default_rng(0)
    return table_from_rows(
        Kind.CROPS,
        [
            crop_row(slice_index=index, image=generator.integers(-1000, 400, (32, 32)).astype(np.int16))
            for index in range(count)
        ],
    )


PART = encode(crops(2), Kind.CROPS, "work", "unit")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PART) - 1), st.integers(1, 255))
def test_no_altered_byte_goes_unnoticed(position, change):
    altered = bytearray(PART)
    altered[position] ^= change
    assert decode_own(bytes(altered), Kind.CROPS, "work", "unit") is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(PART) - 1))
def test_no_cut_goes_unnoticed(length):
    assert decode_own(PART[:length], Kind.CROPS, "work", "unit") is None


def test_a_part_of_another_dataset_or_unit_or_kind_is_not_decoded():
    assert decode_own(PART, Kind.CROPS, "work", "unit").num_rows == 2
    assert decode_own(PART, Kind.CROPS, "other", "unit") is None
    assert decode_own(PART, Kind.CROPS, "work", "other") is None
    assert decode_own(PART, Kind.SLICES, "work", "unit") is None


def test_readers_can_stream_row_groups_of_128_rows():
    file = pq.ParquetFile(io.BytesIO(encode(crops(300), Kind.CROPS, "work", "unit")))
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [128, 128, 44]
    assert {group.column(index).compression for group in groups for index in range(7)} == {"ZSTD"}
