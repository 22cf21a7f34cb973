"""The built pages, and what a browser makes of them from the disk with the network cut."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from scripts import set_repository
from tests.browser import Visit

pytestmark = pytest.mark.book


@pytest.fixture(scope="session")
def html(root, tmp_path_factory):
    """Build the book with warnings as errors; return the folder of its pages."""
    if not list(root.glob("notebooks/[0-9]*.ipynb")):
        pytest.skip("there is no chapter to build")
    out = tmp_path_factory.mktemp("book")
    program = str(Path(sys.executable).with_name("jupyter-book"))
    options = ["--builder", "html", "-n", "-W", "--keep-going", "--all", "--path-output"]
    built = subprocess.run(
        [program, "build", ".", *options, str(out)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    log = built.stdout + built.stderr
    warnings = [line for line in log.splitlines() if "WARNING" in line or "ERROR" in line]
    assert built.returncode == 0, "\n".join(warnings) or log[-3000:]
    return out / "_build" / "html"


@pytest.fixture(scope="session")
def pages(html):
    """Return all pages: those of the contents, the search page and the index."""
    found = sorted(html.glob("book/*.html")) + sorted(html.glob("notebooks/*.html"))
    return [*found, html / "search.html", html / "genindex.html"]


class Page(HTMLParser):
    """Collect a page's anchors, links, pictures and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.undescribed = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and "canonical" not in (given.get("rel") or ""):
            self.loads.append(given.get("href") or "")
        elif tag in {"script", "img", "iframe", "source", "video", "audio"} and given.get("src"):
            self.loads.append(given["src"])
        if tag == "img" and not (given.get("alt") or "").strip():
            self.undescribed.append(given.get("src"))


@pytest.fixture(scope="session")
def parsed(pages):
    return {path: Page(path) for path in pages}


def test_every_entry_of_the_contents_is_a_page(root, html):
    contents = (root / "_toc.yml").read_text(encoding="utf-8")
    for name in re.findall(r"(?:root|file): (\S+)", contents):
        assert (html / f"{name}.html").is_file(), name


def test_internal_links_lead_somewhere(parsed):
    for path, page in parsed.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme:
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor and target in parsed:
                assert unquote(anchor) in parsed[target].ids, f"{path.name}: {link}"


def test_pages_load_from_the_disk_only(parsed):
    for path, page in parsed.items():
        remote = [load for load in page.loads if re.match(r"(https?:)?//", load)]
        assert not remote, path.name


def test_every_picture_is_described(parsed):
    for path, page in parsed.items():
        assert not page.undescribed, path.name


def test_launch_buttons_lead_to_the_repository(root, parsed):
    slug = set_repository.slug(set_repository.current(root))
    chapters = {path: page for path, page in parsed.items() if path.parent.name == "notebooks"}
    assert chapters
    for path, page in chapters.items():
        name = f"notebooks/{path.stem}.ipynb"
        colab = f"https://colab.research.google.com/github/{slug}/blob/main/{name}"
        binder = f"https://mybinder.org/v2/gh/{slug}/main?urlpath=lab/tree/{name}"
        assert colab in page.links, path.name
        assert binder in page.links, path.name


def test_pages_name_no_folder_of_the_builder(root, html):
    folder = str(root)
    for path in [*html.rglob("*.html"), html / "searchindex.js"]:
        assert folder not in path.read_text(encoding="utf-8"), path.name


def test_every_public_name_is_documented(html):
    written = (html / "book" / "api.html").read_text(encoding="utf-8")
    documented = set(re.findall(r'<dt class="sig[^"]*" id="([\w.]+)"', written))
    rooms = ("balancing", "data", "evaluation", "explorer", "plots", "runs", "theory", "training")
    for module in ("", *(f".{room}" for room in rooms)):
        package = import_module(f"rollingq_core{module}")
        for name in package.__all__:
            if callable(getattr(package, name)):
                assert f"{package.__name__}.{name}" in documented


def test_figures_and_tables_are_numbered_and_no_number_leads_nowhere(html):
    for path in sorted(html.glob("notebooks/*.html")):
        page = path.read_text(encoding="utf-8")
        chapter = int(path.name[:2])
        for kind in ("Figure", "Table"):
            tag = "figcaption" if kind == "Figure" else "caption"
            captions = re.findall(rf"<{tag}\b[^>]*>(?:<span id=\S+>)?(\S+ \S+)\.", page)
            expected = [f"{kind} {chapter}.{i + 1}" for i in range(len(captions))]
            assert captions == expected, path.name
            assert len(captions) == len(re.findall(rf"<{tag}\b", page)), path.name
            # "Fig. 7" is the paper's; "Figure 7.1" is this book's.
            named = set(re.findall(rf"\b{kind} {chapter}\.\d+", page))
            assert named == set(captions), path.name


# What a page's column cuts off, hides or sets too small to read; empty where all is well.
UNFIT = """minimum => {
  const article = document.querySelector("article") ?? document.querySelector("main");
  const style = getComputedStyle(article), box = article.getBoundingClientRect();
  const left = box.left + parseFloat(style.paddingLeft) - 1;
  const right = Math.min(box.right - parseFloat(style.paddingRight), innerWidth) + 1;
  const faults = [];
  const note = (what, e) => faults.push(
    `${what}: <${e.tagName}> ${(e.getAttribute("aria-label") ?? e.textContent).trim().slice(0, 60)}`
  );
  const inColumn = e => {
    const box = e.getBoundingClientRect();
    return box.left >= left && box.right <= right;
  };
  if (document.documentElement.scrollWidth > innerWidth) note("page scrolls", article);
  for (const e of article.querySelectorAll("*")) {
    const shown = e.getBoundingClientRect().width;
    if (!shown || e.closest("mjx-assistive-mml, .visually-hidden, svg *")) continue;
    if (!inColumn(e)) note("outside the column", e);
    const cuts = getComputedStyle(e).overflowX !== "visible";
    const mathematics = e.closest("mjx-container") || e.querySelector("mjx-container");
    if (cuts && !mathematics && e.scrollWidth > e.clientWidth + 1) note("cut off", e);
  }
  for (const row of article.querySelectorAll("table:not(.genindextable) tr")) {
    if ([...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0) > 5) note("six columns", row);
  }
  for (const figure of article.querySelectorAll("figure")) {
    const seen = e => e.getBoundingClientRect().width > 0;
    if (![...figure.querySelectorAll("svg, img")].some(seen)) note("nothing drawn", figure);
  }
  for (const svg of [...article.querySelectorAll("svg[role=img]")].filter(e => e.clientWidth)) {
    const frame = svg.getBoundingClientRect();
    const words = svg.querySelectorAll("text, g[id*='-text_']");
    for (const e of [...words].filter(e => e.getBoundingClientRect().width)) {
      const box = e.getBoundingClientRect();
      if (box.left < frame.left - 2 || box.right > frame.right + 2) note("text cut off", svg);
      // Matplotlib writes letters as outlines that are 100 units high at full size.
      const outline = e.querySelector("use"), scale = (outline ?? e).getScreenCTM();
      const size = outline ? 100 : parseFloat(getComputedStyle(e).fontSize);
      const height = size * Math.hypot(scale.c, scale.d);
      if (height < minimum) note(`letters of ${height.toFixed(1)} pixels`, svg);
    }
  }
  return [...new Set(faults)];
}"""


# Mathematics that is left as it was written, and what could not be typeset.
UNTYPESET = """() => [
  ...[...document.querySelectorAll(".math")].filter(e => !e.querySelector("mjx-container")),
  ...document.querySelectorAll("mjx-merror, [data-mjx-error]"),
].map(e => e.textContent)"""


class Seen(NamedTuple):
    """What a browser makes of a page."""

    remote: list[str]
    errors: list[str]
    untypeset: list[str]
    typeset: int
    unfit: list[str]


@pytest.fixture(scope="session", params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def seen(request, browser, pages):
    """Return what a browser makes of each page, all from one visit, as they take long."""
    found = {}
    width, scheme = request.param
    for path in pages:
        with Visit(browser, path, width=width, scheme=scheme) as visit:
            found[path.name] = Seen(
                [url for url in visit.requests if not url.startswith(("file:", "data:"))],
                visit.errors,
                visit.page.evaluate(UNTYPESET),
                visit.page.locator("mjx-container").count(),
                visit.page.evaluate(UNFIT, 8),
            )
    return found


@pytest.mark.browser
def test_pages_run_without_error_or_request(seen):
    for name, page in seen.items():
        assert not page.remote, name
        assert not page.errors, name


@pytest.mark.browser
def test_all_mathematics_is_typeset(seen):
    for name, page in seen.items():
        assert not page.untypeset, name
    assert sum(page.typeset for page in seen.values()) > 20


@pytest.mark.browser
def test_all_of_a_page_fits_its_column(seen):
    for name, page in seen.items():
        assert not page.unfit, "\n".join([name, *page.unfit])


@pytest.mark.browser
def test_what_does_not_fit_is_seen(browser, tmp_path):
    table = "<tr>" + "<td>number</td>" * 6 + "</tr>"
    parts = {
        "outside the column": "<p style='width:900px'>wide</p>",
        "cut off": "<div style='overflow-x:auto'><p style='width:900px'>wide</p></div>",
        "six columns": f"<table>{table}</table>",
        "nothing drawn": "<figure><svg style='display:none'></svg></figure>",
        "text cut off": "<svg role='img' width='100'><text x='90'>long text</text></svg>",
        "letters of 7.0 pixels": "<svg role='img'><text y='9' font-size='7'>a</text></svg>",
    }
    page = tmp_path / "page.html"
    for fault, html in parts.items():
        page.write_text(f"<article>{html}</article>", encoding="utf-8")
        with Visit(browser, page, width=390) as visit:
            found = visit.page.evaluate(UNFIT, 8)
        assert any(line.startswith(fault) for line in found), (fault, found)
    page.write_text("<article><p>All is well.</p></article>", encoding="utf-8")
    with Visit(browser, page, width=390) as visit:
        assert visit.page.evaluate(UNFIT, 8) == []


@pytest.mark.browser
def test_search_finds_the_anchor(browser, html):
    with Visit(browser, html / "search.html", query="?q=anchor") as visit:
        results = visit.page.locator("#search-results ul.search li a")
        results.first.wait_for(timeout=20_000)
        found = [
            Path(urlsplit(link).path).stem
            for link in results.evaluate_all("a => a.map(e => e.href)")
        ]
    assert "glossary" in found
