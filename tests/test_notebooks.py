"""What nbval does not see: pairs in sync, outputs present, cells short, pictures described."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import median

import jupytext
import nbformat
import pytest
from jupytext.compare import compare_notebooks

from scripts import build_notebooks, install_cell, set_repository

ROOT = Path(__file__).parents[1]
CHECKED = "nbval-check-output"
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jupytext")


@pytest.fixture(params=SCRIPTS, ids=lambda path: path.stem)
def script(request):
    return request.param


@pytest.fixture
def notebook(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_every_chapter_of_the_contents_exists():
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"file: (notebooks/\S+)", contents)
    assert listed
    assert sorted(listed) == [f"notebooks/{path.stem}" for path in SCRIPTS]
    assert sorted((ROOT / "notebooks").glob("*.ipynb")) == [
        path.with_suffix(".ipynb") for path in SCRIPTS
    ]


def test_notebook_and_script_are_one(script):
    compare_notebooks(
        jupytext.read(script.with_suffix(".ipynb")),
        jupytext.read(script),
        fmt="py:percent",
        compare_outputs=False,
    )


def test_notebook_is_valid_and_holds_nothing_of_one_run_only(script, notebook):
    nbformat.validate(notebook)
    written = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    tidy = build_notebooks.tidy(notebook)
    assert nbformat.writes(tidy, version=4) + "\n" == written, "run `make notebooks`"


def test_every_cell_ran_in_order_and_without_error(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.output_type != "error" for output in cell.outputs), cell.source
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.source


def test_some_cells_are_checked_and_each_of_them_prints(code):
    checked = [cell for cell in code if CHECKED in tags(cell)]
    assert checked
    for cell in checked:
        assert cell.outputs, f"checked, but without output: {cell.source}"


def test_cells_are_short(code):
    lengths = [len(cell.source.splitlines()) for cell in code]
    assert max(lengths) <= 25
    assert median(lengths) <= 8


def test_first_code_cell_installs_what_the_chapter_needs(script, code):
    source = script.read_text(encoding="utf-8")
    expected = install_cell.install_cell(set_repository.current(), source)
    assert code[0].source == expected, "run `python scripts/install_cell.py`"
    assert install_cell.TAG in tags(code[0])


def test_status_names_the_chapter(script):
    status = json.loads(build_notebooks.STATUS.read_text(encoding="utf-8"))
    assert script.stem in status["chapters"], "run `make notebooks`"


def test_chapter_has_one_title_with_its_number(script, notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = re.findall(r"^# +(.+)$", "\n".join(prose), flags=re.MULTILINE)
    assert len(titles) == 1
    assert prose[0].lstrip().startswith("# "), "the title comes first"
    assert re.search(rf"\b{int(script.stem[:2])}\b", titles[0]), titles[0]


class Pictures(HTMLParser):
    """Collect each picture's description, and whether it stands in a figure with a caption."""

    def __init__(self, html):
        super().__init__()
        self.descriptions, self.figures, self.captions, self.remote = [], 0, [], []
        self.depth, self.in_caption = 0, False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.figures += tag == "figure"
        if tag == "figcaption":
            self.in_caption = True
            self.captions.append("")
        hidden = given.get("aria-hidden") == "true"
        if tag == "svg":
            if not self.depth and not hidden:
                self.descriptions.append(given.get("aria-label") or "")
            self.depth += 1
        elif tag == "img":
            self.descriptions.append(given.get("alt") or "")
        source = given.get("src") or ""
        if source.startswith(("http:", "https:", "//")):
            self.remote.append(source)

    def handle_endtag(self, tag):
        self.depth -= tag == "svg"
        if tag == "figcaption":
            self.in_caption = False

    def handle_data(self, data):
        if self.in_caption:
            self.captions[-1] += data


def pictures(code):
    for cell in code:
        for output in cell.outputs:
            bundle = output.get("data", {})
            if "text/html" in bundle:
                yield cell, Pictures("".join(bundle["text/html"]))


def test_pictures_are_described_and_captioned(code):
    for cell, found in pictures(code):
        assert all(text.strip() for text in found.descriptions), cell.source
        assert not found.remote, cell.source
        if found.figures:
            assert len(found.captions) == found.figures, cell.source
            assert all(text.strip() for text in found.captions), cell.source


def test_no_picture_goes_without_a_description(code):
    for cell in code:
        for output in cell.outputs:
            bundle = output.get("data", {})
            drawn = {"image/png", "image/svg+xml", "image/jpeg"} & set(bundle)
            assert not drawn or "text/html" in bundle, f"a bare picture: {cell.source}"


def test_notebook_stays_small(script):
    assert script.with_suffix(".ipynb").stat().st_size < 3_000_000


def test_picture_reader_sees_what_is_missing():
    good = Pictures(
        '<figure><svg aria-label="a line"></svg><figcaption>It rises.</figcaption></figure>'
    )
    assert (good.descriptions, good.figures, good.captions) == (["a line"], 1, ["It rises."])
    bad = Pictures('<svg></svg><img src="https://example.org/a.png"><svg aria-hidden="true"/>')
    assert bad.descriptions == ["", ""]
    assert bad.remote == ["https://example.org/a.png"]


def test_builder_writes_the_same_for_the_same_run():
    def executed(stamp, pieces):
        cells = [nbformat.v4.new_code_cell("print(1)") for _ in range(2)]
        for cell in cells:
            cell.metadata["execution"] = {"iopub.execute_input": stamp}
            cell.outputs = [nbformat.v4.new_output("stream", text=text) for text in pieces]
        return build_notebooks.tidy(nbformat.v4.new_notebook(cells=cells))

    first, second = executed("10:00", ["a\n", "b\n"]), executed("11:00", ["a\nb\n"])
    assert nbformat.writes(first) == nbformat.writes(second)
    assert first.cells[0].id != first.cells[1].id


def test_builder_drops_the_view_of_a_widget_that_is_gone():
    data = {"text/html": "<p>", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    cell = nbformat.v4.new_code_cell("explorer")
    cell.outputs = [nbformat.v4.new_output("execute_result", data=data)]
    build_notebooks.tidy(nbformat.v4.new_notebook(cells=[cell]))
    assert cell.outputs[0].data == {"text/html": "<p>"}
