import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lungforge.datasets import Kind, schema_for, table_from_rows, tensor_values, validate_table
from lungforge.datasets.parquet import decode_own, encode
from lungforge.errors import InputError

HEIGHT, WIDTH = 6, 9
SLICE = {
    "series_uid": "1.2.840",
    "subset": 3,
    "slice_index": 17,
    "z_mm": -101.25,
    "spacing_mm": [0.7, 0.8],
    "image": np.full((HEIGHT, WIDTH), -900, np.int16),
    "label": np.full((HEIGHT, WIDTH), 5, np.uint8),
    "nodules": [{"x": 8.0, "y": 5.0, "diameter_px": 2.0, "diameter_mm": 1.5}],
}
CROP = {
    "series_uid": "1.2.840",
    "subset": -1,
    "slice_index": 17,
    "x": 100.5,
    "y": 40.0,
    "label": 1,
    "image": np.zeros((32, 32), np.int16),
}
SAMPLE = {
    "sample_id": "abc-0",
    "source_series_uid": "1.2.840",
    "source_slice_index": 17,
    "source_top": 0,
    "source_left": 0,
    "subset": 3,
    "replicate": 0,
    "seed": 2**62,
    "edit": "",
    "inpainted": False,
    "sampler": "dpmpp",
    "steps": 25,
    "guidance": 1.5,
    "model_sha256": "0123456789abcdef" * 4,
    **{name: SLICE[name] for name in ("spacing_mm", "image", "label", "nodules")},
}
SMALL = {**SLICE, "image": np.zeros((1, 2), np.int16), "label": np.zeros((1, 2), np.uint8), "nodules": []}
ROWS = {Kind.SLICES: SLICE, Kind.CROPS: CROP, Kind.SAMPLES: SAMPLE}

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False)


@st.composite
def slice_rows(draw):
    """Any valid rows of slices, all of one size."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    nodule = st.fixed_dictionaries(
        {
            "x": st.floats(-0.5, width - 0.5),
            "y": st.floats(-0.5, height - 0.5),
            "diameter_px": positive,
            "diameter_mm": positive,
        }
    )
    row = st.fixed_dictionaries(
        {
            "series_uid": st.text(st.characters(codec="utf-8"), min_size=1),
            "subset": st.integers(-1, 127),
            "slice_index": st.integers(0, 2**31 - 1),
            "z_mm": finite,
            "spacing_mm": st.lists(positive, min_size=2, max_size=2),
            "image": hnp.arrays(np.int16, (height, width)),
            "label": hnp.arrays(np.uint8, (height, width), elements=st.integers(0, 5)),
            "nodules": st.lists(nodule, max_size=3),
        }
    )
    return draw(st.lists(row, min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(slice_rows())
def test_rows_come_back_as_they_went(rows):
    data = encode(table_from_rows(Kind.SLICES, rows), Kind.SLICES, "work", "unit")
    table = decode_own(data, Kind.SLICES, "work", "unit")
    for name in ("image", "label"):
        values = tensor_values(table[name])
        assert values.dtype == rows[0][name].dtype
        np.testing.assert_array_equal(values, np.stack([row[name] for row in rows]))
    for name in table.column_names:
        if name not in ("image", "label"):
            assert table[name].to_pylist() == [row[name] for row in rows]


@settings(max_examples=40, deadline=None)
@given(slice_rows(), st.data())
def test_the_bytes_of_a_part_do_not_tell_how_its_rows_were_gathered(rows, data):
    whole = table_from_rows(Kind.SLICES, rows)
    cut = data.draw(st.integers(0, len(rows)))
    pieces = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    again = table_from_rows(Kind.SLICES, [dict(reversed(row.items())) for row in rows])
    expected = encode(whole, Kind.SLICES, "work", "unit")
    assert encode(pieces, Kind.SLICES, "work", "unit") == expected
    assert encode(again, Kind.SLICES, "work", "unit") == expected


@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_of_rows_passes_and_keeps_its_types(kind):
    table = table_from_rows(kind, [ROWS[kind]] * 3)
    validate_table(kind, table)
    assert table.schema == schema_for(kind, *ROWS[kind]["image"].shape)
    assert decode_own(encode(table, kind, "w", "u"), kind, "w", "u").equals(table)
    assert encode(table, kind, "w", "u") == encode(table, kind, "w", "u")


def test_the_columns_are_the_documented_ones():
    assert [f"{field.name}: {field.type}" for field in schema_for(Kind.SLICES, 4, 5)] == [
        "series_uid: string",
        "subset: int8",
        "slice_index: int32",
        "z_mm: double",
        "spacing_mm: fixed_size_list<element: double not null>[2]",
        "image: extension<arrow.fixed_shape_tensor[value_type=int16, shape=[4,5]]>",
        "label: extension<arrow.fixed_shape_tensor[value_type=uint8, shape=[4,5]]>",
        "nodules: list<element: struct<x: double not null, y: double not null, "
        "diameter_px: double not null, diameter_mm: double not null> not null>",
    ]
    assert schema_for(Kind.CROPS, 32, 32).names == [*CROP]
    assert schema_for(Kind.SAMPLES, 4, 5).names == [*SAMPLE]


def test_samples_have_the_columns_of_the_gate_only_where_it_was_asked_for():
    rows = [{**SAMPLE, "hu_retries": 2, "hu_outside": True}]
    table = table_from_rows(Kind.SAMPLES, rows, extra=True)
    assert table.column_names == [*SAMPLE, "hu_retries", "hu_outside"]
    assert decode_own(encode(table, Kind.SAMPLES, "w", "u"), Kind.SAMPLES, "w", "u").equals(table)
    assert table.select([*SAMPLE]).equals(table_from_rows(Kind.SAMPLES, [SAMPLE]))
    for wrong, extra in ((rows, False), ([SAMPLE], True)):
        with pytest.raises(InputError, match=r"columns missing|unknown \['hu_outside', 'hu_retries'\]"):
            table_from_rows(Kind.SAMPLES, wrong, extra=extra)
    with pytest.raises(InputError, match="has the columns"):
        validate_table(Kind.SAMPLES, table.drop_columns("hu_outside"))
    with pytest.raises(InputError, match="hu_retries of row 0: -1, but it must be 0 or more"):
        table_from_rows(Kind.SAMPLES, [{**rows[0], "hu_retries": -1}], extra=True)


def test_a_nodule_at_the_very_edge_of_the_image_is_inside():
    edge = {"x": WIDTH - 0.5, "y": -0.5, "diameter_px": 1.0, "diameter_mm": 1.0}
    table_from_rows(Kind.SLICES, [{**SLICE, "nodules": [edge]}])


def _nodule(**changes):
    return {"nodules": [{**SLICE["nodules"][0], **changes}]}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (Kind.SLICES, {"label": np.full((HEIGHT, WIDTH), 6, np.uint8)}, r"label of row 1: 6, but .* below 6"),
        (
            Kind.SLICES,
            {"label": np.zeros((WIDTH, HEIGHT), np.uint8)},
            r"label of row 1: expected uint8 \(6, 9\)",
        ),
        (
            Kind.SLICES,
            {"image": np.zeros((HEIGHT, WIDTH), np.int32)},
            r"image of row 1: .* got int32 \(6, 9\)",
        ),
        (
            Kind.SLICES,
            {"image": np.zeros((HEIGHT, WIDTH + 1), np.int16)},
            r"image of row 1: .* got int16 \(6, 10\)",
        ),
        (Kind.SLICES, {"image": [[1, 2]]}, "image of row 1: expected int16 .* got list"),
        (
            Kind.SLICES,
            _nodule(x=WIDTH - 0.4),
            r"nodules.x of row 1: 8.6, but .* inside the image, -0.5 to 8.5",
        ),
        (
            Kind.SLICES,
            _nodule(y=WIDTH - 1.0),
            "nodules.y of row 1: 8.0, but .* inside the image, -0.5 to 5.5",
        ),
        (Kind.SLICES, _nodule(y=float("nan")), "nodules.y of row 1: nan"),
        (Kind.SLICES, _nodule(diameter_px=0.0), "nodules.diameter_px of row 1: 0.0, but it must be positive"),
        (Kind.SLICES, _nodule(diameter_mm=float("inf")), "nodules.diameter_mm of row 1: inf"),
        (Kind.SLICES, _nodule(diameter_mm=None), "nodules: 1 missing"),
        (Kind.SLICES, {"nodules": None}, "nodules: 1 missing"),
        (Kind.SLICES, {"z_mm": float("nan")}, "z_mm of row 1: nan, but it must be finite"),
        (Kind.SLICES, {"z_mm": None}, "z_mm: 1 missing"),
        (Kind.SLICES, {"spacing_mm": [0.7, 0.0]}, r"spacing_mm of row 1: \[0.7 0. \], but .* positive"),
        (Kind.SLICES, {"spacing_mm": [0.7]}, "spacing_mm: expected fixed_size_list"),
        (Kind.SLICES, {"spacing_mm": [0.7, None]}, "spacing_mm: 1 missing"),
        (Kind.SLICES, {"subset": -2}, "subset of row 1: -2"),
        (Kind.SLICES, {"subset": 128}, "subset: expected int8"),
        (Kind.SLICES, {"slice_index": -1}, "slice_index of row 1: -1"),
        (Kind.SLICES, {"slice_index": 1.5}, "slice_index of row 1: expected int32, got 1.5"),
        (Kind.SLICES, {"series_uid": ""}, "series_uid of row 1: empty, but it must be a word"),
        (Kind.SLICES, {"series_uid": 12}, "series_uid: expected string"),
        (Kind.SLICES, {"extra": 1}, r"slices row 1: columns missing \[\], unknown \['extra'\]"),
        (Kind.CROPS, {"label": 2}, "label of row 1: 2, but it must be 0 or 1"),
        (Kind.CROPS, {"x": float("inf")}, "x of row 1: inf"),
        (Kind.SAMPLES, {"steps": 0}, "steps of row 1: 0, but it must be 1 or more"),
        (Kind.SAMPLES, {"model_sha256": "abc"}, "model_sha256 of row 1: abc, but .* sha256"),
    ],
)
def test_a_wrong_value_is_named_with_its_column_and_row(kind, changes, message):
    with pytest.raises(InputError, match=message):
        table_from_rows(kind, [ROWS[kind], {**ROWS[kind], **changes}])


def test_a_missing_column_is_named():
    row = {name: value for name, value in SLICE.items() if name != "z_mm"}
    with pytest.raises(InputError, match=r"slices row 0: columns missing \['z_mm'\]"):
        table_from_rows(Kind.SLICES, [row])


def test_the_row_of_a_bad_nodule_is_named_across_chunks():
    bad = {**SLICE, "nodules": SLICE["nodules"] * 2}
    whole = table_from_rows(Kind.SLICES, [SLICE, SLICE, bad])
    narrow = schema_for(Kind.SLICES, HEIGHT, WIDTH)
    chunks = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert chunks["nodules"].num_chunks == 2
    nodules = pa.array([[], [], [{**SLICE["nodules"][0], "x": 99.0}]], type=narrow.field("nodules").type)
    nodules = pa.chunked_array([nodules.slice(0, 1), nodules.slice(1)])
    table = chunks.set_column(7, narrow.field("nodules"), nodules)
    with pytest.raises(InputError, match=r"nodules.x of row 2: 99.0"):
        validate_table(Kind.SLICES, table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("label"), "has the columns"),
        (lambda table: table.select(table.column_names[::-1]), "has the columns"),
        (lambda table: table.drop_columns("image"), "image: expected a tensor column .* got None"),
        (lambda table: table.set_column(3, "z_mm", pa.array([1], pa.float32())), "z_mm: expected double"),
        (
            lambda table: table.set_column(6, "label", table_from_rows(Kind.SLICES, [SMALL])["label"]),
            r"label: expected .*shape=\[6,9\].* got .*shape=\[1,2\]",
        ),
    ],
)
def test_a_table_of_other_columns_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        validate_table(Kind.SLICES, change(table_from_rows(Kind.SLICES, [SLICE])))


def test_no_rows_need_a_shape():
    with pytest.raises(InputError, match="no slices rows: give the shape"):
        table_from_rows(Kind.SLICES, [])
    table = table_from_rows(Kind.SLICES, [], shape=(4, 5))
    assert tensor_values(table["image"]).shape == (0, 4, 5)
    assert decode_own(encode(table, Kind.SLICES, "w", "u"), Kind.SLICES, "w", "u").num_rows == 0


def test_files_have_no_rows():
    with pytest.raises(InputError, match="a model dataset has files, no rows"):
        schema_for(Kind.MODEL, 1, 1)


def test_tensor_values_is_a_view_of_one_piece_and_joins_several():
    table = table_from_rows(Kind.SLICES, [{**SLICE, "image": SLICE["image"] + index} for index in range(4)])
    column = table["image"]
    assert not tensor_values(column).flags.owndata
    np.testing.assert_array_equal(tensor_values(column.slice(1, 2))[:, 0, 0], [-899, -898])
    pieces = pa.chunked_array([column.chunk(0).slice(2), column.chunk(0).slice(0, 1)])
    np.testing.assert_array_equal(tensor_values(pieces)[:, 0, 0], [-898, -897, -900])
