"""Pages have the places that benchmarks write their tables to: without one, hours of measuring end in an error."""

from __future__ import annotations

import pytest

from benchmarks import contrast, downstream, few, repeats, resolution
from benchmarks.evidence.page import DOCS
from benchmarks.report import README, write_between


@pytest.mark.parametrize(
    ("page", "name"),
    [(README, "evidence"), (README, "figures"), (DOCS, "evidence"), (DOCS, "gates"), (resolution.PAGE, "resolution"), (repeats.PAGE, "repeats"),
     *((few.PAGE, name) for name in few.SECTIONS), (downstream.PAGE, "downstream"), (contrast.PAGE, "contrast")],
)
def test_a_table_has_its_place(tmp_path, page, name):
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    write_between(copy, name, "a table")
    written = copy.read_text()
    assert written.count(f"<!-- {name} -->\na table\n<!-- /{name} -->") == 1
    outside = page.read_text().partition(f"<!-- {name} -->")[0], page.read_text().partition(f"<!-- /{name} -->")[2]
    assert written.startswith(outside[0]) and written.endswith(outside[1])


def test_a_page_without_the_place_is_left_as_it_was(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="has no <!-- few -->"):
        write_between(page, "few", "a table")
    assert page.read_text() == "text"
