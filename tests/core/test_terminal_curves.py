"""Curves in a terminal, by hand."""

import math

from sparse_rnn.core.terminal_curves import Canvas, curves


def drawn(canvas: Canvas) -> list[str]:
    return [canvas.row(y).plain for y in range(canvas.height)]


def test_a_braille_character_has_two_by_four_dots():
    canvas = Canvas(2, 1)
    canvas.line((0, 0), (3, 3), "red")
    # Dots 1 and 5 of the first character, 3 and 8 of the second (Unicode numbers them down the columns, 7 and 8 last).
    assert drawn(canvas) == [chr(0x2800 + 0x01 + 0x10) + chr(0x2800 + 0x04 + 0x80)]


def test_stars_where_braille_cannot_be_shown():
    canvas = Canvas(3, 3, braille=False)
    canvas.line((0, 2), (2, 0), "red")
    assert drawn(canvas) == ["  *", " * ", "*  "]


def test_the_axes_name_the_ends_and_the_legend_the_last_value():
    text = curves("loss", {"a": [(1, 5.0), (2, 1.0)], "b": [(2, 3.0)]}, width=19, height=6, braille=False).plain
    lines = text.splitlines()
    assert lines[1].startswith("      5 |*")
    assert lines[3].startswith("      1 |")
    assert lines[3].endswith("*")
    assert lines[4] == "         1  epoch 2"
    assert lines[5].split() == ["a", "1", "b", "3"]


def test_values_that_span_more_than_a_decade_are_on_a_logarithmic_scale():
    def middle(largest: float) -> int:
        text = curves(
            "", {"a": [(0, largest), (1, largest / 10), (2, largest / 100)]}, width=30, height=13, braille=False
        )
        rows = text.plain.splitlines()[1:-2]
        return next(y for y, row in enumerate(rows) if row[9 + 10] == "*")

    assert middle(100.0) == 4  # of the rows 0 to 9, in the middle; on a linear scale it would be row 8


def test_what_is_no_number_is_left_out_and_nothing_is_no_error():
    assert "nothing to draw" in curves("x", {"a": [(1, math.nan), (2, math.inf)]}, width=40, height=8).plain
    assert "nothing to draw" in curves("x", {}, width=40, height=8).plain
    one = curves("x", {"a": [(1, 2.0)]}, width=40, height=8)
    assert "2 |" in one.plain
