"""Tables as HTML: text is escaped, numbers are aligned right, long tables end with a count."""

from __future__ import annotations

from cnn.data import load
from cnn.geometry import describe
from cnn.html_table import html_table
from cnn.layers import Chain, Dense, Flatten


def test_a_table_with_caption_and_names() -> None:
    assert html_table(["a", "<b>"], [["x & y", "1"]], "one") == (
        '<table style="text-align: right"><caption style="text-align: left">one</caption>'
        '<thead><tr><th style="text-align: left">a</th><th>&lt;b&gt;</th></tr></thead>'
        '<tbody><tr><td style="text-align: left">x &amp; y</td><td>1</td></tr></tbody></table>'
    )


def test_a_long_table_says_how_many_rows_it_hides() -> None:
    rows = [[str(i)] for i in range(2000)]
    shown = html_table([], rows, limit=3)
    assert shown.count("<tr>") == 4 and ">2</td>" in shown and ">3</td>" not in shown
    assert "… 1,997 more" in shown
    assert "more" not in html_table([], rows, limit=2000)


def test_a_description_and_a_data_set_show_as_tables() -> None:
    shown = describe(Chain((Flatten(), Dense(3))), (4, 2))._repr_html_()
    assert shown.count("<tr>") == 3  # head, one layer that computes, total
    assert ">total</td>" in shown and "<td>27</td>" in shown  # 8 · 3 + 3
    assert "<table" in load("mnist1d")._repr_html_()
