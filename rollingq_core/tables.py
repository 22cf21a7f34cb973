"""A table that fits its column, on a phone too."""

import html
import math
import re
from collections.abc import Sequence

WIDEST = 5
RIGHT, LEFT = (
    f"text-align:{side};padding:0.3em 0.45em;vertical-align:baseline" for side in ("right", "left")
)
CAPTION = "caption-side:bottom;text-align:left;font-weight:normal;color:inherit"


class Table:
    """A small table with a caption, numbers to the right.

    On a page it has at most five columns: what is wider is cut into blocks that stand one below
    another, each with the row titles.

    Parameters
    ----------
    header
        Column titles; the first column holds row titles.
    rows
        Cells as text.
    caption
        What the table shows, and from which data.
    quoted
        Titles of the columns whose numbers were measured by others; they stand in italics.

    Raises
    ------
    ValueError
        A row has more or fewer cells than the header.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str,
        quoted: Sequence[str] = (),
    ) -> None:
        wrong = [row for row in rows if len(row) != len(header)]
        if wrong:
            raise ValueError(f"rows: got a row of {len(wrong[0])} cells, expected {len(header)}")
        self.header, self.rows, self.caption, self.quoted = header, rows, caption, quoted

    def __repr__(self) -> str:
        lines = [list(self.header), *map(list, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        left = [i == 0 or not self._holds_numbers(i) for i in range(len(self.header))]
        columns = [*zip(widths, left, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if at_left else cell.rjust(width)
                for cell, (width, at_left) in zip(line, columns, strict=True)
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        blocks = "".join(map(self._block, self._cuts()))
        return (
            '<div class="book-table"><table class="table">'
            f'<caption style="{CAPTION}">{html.escape(self.caption)}</caption>'
            f"{blocks}</table></div>"
        )

    def _cuts(self) -> list[range]:
        """Return which columns stand in each block, beside the row titles."""
        others = len(self.header) - 1
        size = math.ceil(others / math.ceil(others / (WIDEST - 1))) if others else 1
        return [range(at, min(at + size, others + 1)) for at in range(1, others + 1, size)]

    def _block(self, columns: range) -> str:
        looks = {i: self._look(i) for i in columns}
        head = "".join(_cell("th", "col", looks[i], self.header[i]) for i in columns)
        body = "".join(
            f"<tr>{_cell('th', 'row', LEFT, row[0])}"
            + "".join(_cell("td", None, looks[i], row[i]) for i in columns)
            + "</tr>"
            for row in self.rows
        )
        first = _cell("th", "col", LEFT, self.header[0])
        titles = f"<tr>{first}{head}</tr>"
        if columns.start == 1:
            return f"<thead>{titles}</thead><tbody>{body}</tbody>"
        return f"<tbody>{titles}{body}</tbody>"

    def _look(self, column: int) -> str:
        """Return a column's style: numbers stand at the right, words at the left."""
        italic = "font-style:italic;" * (self.header[column] in self.quoted)
        return italic + (RIGHT if self._holds_numbers(column) else LEFT)

    def _holds_numbers(self, column: int) -> bool:
        return any(re.match(r"[+−-]?\d", row[column]) for row in self.rows)


def _cell(tag: str, scope: str | None, look: str, text: str) -> str:
    said = html.escape(text)
    # A line may break between a number and its spread, not inside either.
    said = re.sub(
        r"^([+−-]?\d\S*) (± \S+)$",
        r'<span style="white-space:nowrap">\1</span> '
        r'<span class="sd" style="white-space:nowrap;font-weight:300;opacity:0.8">\2</span>',
        said,
    )
    where = f' scope="{scope}"' if scope else ""
    return f'<{tag}{where} style="{look}">{said}</{tag}>'
