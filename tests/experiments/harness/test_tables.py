"""Tables hold what they were given."""

import numpy as np
import pytest

from experiments.harness.tables import Table, number, percent

TABLE = Table(
    "a <caption>", ["rung", "accuracy"], [["conv", "94.0 ± 0.5"], ["<mlp>", "68.0 ± 1.0"]]
)


def test_percent_is_mean_and_sample_deviation() -> None:
    """0.5, 0.7 and 0.9 have mean 0.7 and deviation sqrt(0.08 / 2) = 0.2."""
    assert percent(np.array([0.5, 0.7, 0.9])) == "70.00 ± 20.00"
    assert percent(np.array([0.5])) == "50.00"


def test_numbers_become_text() -> None:
    table = Table("a", ["point", "parameters", "%"], [["conv", 5210, np.array([0.5, 0.7])]])
    assert table.rows == [["conv", "5,210", "60.00 ± 14.14"]]
    assert Table("a", table.heads, table.rows) == table


def test_names_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Table("[red]a", ["[b]"], [["[bold]run[/x] :smile:"]]).show()
    said = capsys.readouterr().out
    assert all(name in said for name in ("[red]a", "[b]", "[bold]run[/x] :smile:"))


def test_table_on_a_terminal_and_in_html(capsys: pytest.CaptureFixture[str]) -> None:
    TABLE.show()
    assert "94.0 ± 0.5" in capsys.readouterr().out
    assert ">a &lt;caption&gt;</caption>" in TABLE.to_html()
    assert ">&lt;mlp&gt;</td><td>68.0 ± 1.0</td>" in TABLE.to_html()


def test_seeds_without_a_value_do_not_count() -> None:
    """NaN is no value: of 1 and 3 the mean is 2 and the deviation is the root of 2."""
    assert number(np.array([1.0, np.nan, 3.0]), 1) == "2.0 ± 1.4 (2 of 3 seeds)"
    assert number(np.array([np.nan, 3.0]), 1) == "3.0 (1 of 2 seeds)"
    assert number(np.array([np.nan, np.nan])) == "no value"
