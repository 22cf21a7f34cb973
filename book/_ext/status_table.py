"""The ``status-table`` directive: when each chapter ran, for how long, with which versions."""

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

RECORD = Path(__file__).parents[2] / "results" / "status.json"


def table(head, rows):
    """Return a docutils table with the given head and rows of text."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    for section, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
        for line in lines:
            row = nodes.row()
            for text in line:
                row += nodes.entry("", nodes.paragraph(text=text))
            section += row
        group += section
    return nodes.table("", group, classes=["status-table"])


def _written(versions):
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))


class StatusTable(Directive):
    """A table read from ``results/status.json``, and the hardware that the chapters ran on."""

    def run(self):
        environment = self.state.document.settings.env
        environment.note_dependency(str(RECORD))
        chapters = json.loads(RECORD.read_text(encoding="utf-8"))["chapters"]
        rows = [
            [name, run["date"], f"{run['seconds']:.0f} s", _written(run["versions"])]
            for name, run in sorted(chapters.items())
        ]
        hardware = "; ".join(sorted({run["hardware"] for run in chapters.values()}))
        return [
            table(["Chapter", "Ran on", "Took", "With"], rows),
            nodes.paragraph(text=f"Hardware: {hardware or 'no chapter has run yet'}."),
        ]


def setup(app):
    app.add_directive("status-table", StatusTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
