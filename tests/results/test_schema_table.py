"""The table of docs/results.md is what the schema declares.

``python tests/results/test_schema_table.py`` writes it anew.
"""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
TABLE = re.compile(r"(?<=<!-- schema:begin -->\n).*?(?=<!-- schema:end -->)", re.DOTALL)


def table() -> str:
    from toolkit.results.schema import markdown_table

    return markdown_table()


def test_the_page_shows_what_is_declared():
    renew = "run: python tests/results/test_schema_table.py"
    assert TABLE.search(PAGE.read_text(encoding="utf-8"))[0] == table(), renew


def test_the_table_has_a_row_for_every_variable():
    from toolkit.results.schema import GROUPS, SWEEP

    declared = [v for group in (*GROUPS.values(), SWEEP) for v in group]
    rows = table().splitlines()[2:]
    assert len(rows) == len(declared)
    for variable, row in zip(declared, rows, strict=True):
        assert f"`{variable.name}`" in row and row.rstrip(" |").endswith(variable.recorded)
        assert variable.recorded


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))
    text, fresh = PAGE.read_text(encoding="utf-8"), table()
    PAGE.write_text(TABLE.sub(lambda _: fresh, text), encoding="utf-8")
