import pytest

from gan_jax.tables import markdown_table, number_table, text_table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [["a", "bb", "c"], ["long", "b", "10"]]
    assert text_table(rows).splitlines() == ["a     bb  c", "long  b   10"]
    assert text_table(rows, "lr").splitlines() == ["a     bb   c", "long   b  10"]
    assert text_table(rows, "r").splitlines() == ["   a  bb   c", "long   b  10"]


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        text_table([["a", "b"], ["c"]])


def test_numbers_have_five_digits_and_what_is_no_number_is_left_out():
    table = number_table({"a": {"x": 1.2345678, "note": "text"}, "b": {"y": 3}})
    assert [line.split() for line in table.splitlines()] == [
        ["x", "y"],
        ["a", "1.2346", "-"],
        ["b", "-", "3"],
    ]


def test_bars_are_escaped_in_markdown():
    assert markdown_table([["h"], ["|x|"]]).splitlines() == ["| h |", "| --- |", r"| \|x\| |"]
