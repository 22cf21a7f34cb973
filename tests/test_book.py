"""The built pages, and what a browser makes of them from the disk with the network cut."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
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
    for module in ("", ".data", ".evaluation", ".plots"):
        package = import_module(f"rollingq_core{module}")
        for name in package.__all__:
            if callable(getattr(package, name)):
                assert f"{package.__name__}.{name}" in documented


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_run_without_error_or_request(browser, pages, scheme):
    for path in pages:
        with Visit(browser, path, scheme=scheme) as visit:
            remote = [url for url in visit.requests if not url.startswith(("file:", "data:"))]
            assert not remote, path.name
            assert not visit.errors, path.name


@pytest.mark.browser
def test_all_mathematics_is_typeset(browser, pages):
    typeset = 0
    for path in pages:
        with Visit(browser, path) as visit:
            left = visit.page.evaluate(
                "[...document.querySelectorAll('.math')]"
                ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
            )
            wrong = visit.page.locator("mjx-merror, [data-mjx-error]").count()
            typeset += visit.page.locator("mjx-container").count()
        assert not left, path.name
        assert not wrong, path.name
    assert typeset > 20


@pytest.mark.browser
def test_nothing_sticks_out_on_a_phone(browser, pages):
    for path in pages:
        with Visit(browser, path, width=375) as visit:
            width = visit.page.evaluate("document.documentElement.scrollWidth")
            # What lies left of the page, or is cut off at its right, cannot be scrolled to.
            lost = visit.page.evaluate(
                """() => {
                  const scrolls = e => /auto|scroll/.test(getComputedStyle(e).overflowX);
                  const inBox = e => e !== null && (scrolls(e) || inBox(e.parentElement));
                  const hidden = 'mjx-assistive-mml, .visually-hidden';
                  return [...document.querySelectorAll('article *')].filter(e => {
                    const box = e.getBoundingClientRect();
                    const past = box.right > innerWidth + 1 && !inBox(e.parentElement);
                    return box.width && !e.closest(hidden) && (box.left < -1 || past);
                  }).map(e => e.outerHTML.slice(0, 120));
                }"""
            )
            undrawn = visit.page.evaluate(
                "[...document.querySelectorAll('article figure :is(svg, img)')]"
                ".filter(e => e.getBoundingClientRect().width === 0)"
                ".map(e => e.getAttribute('aria-label') ?? e.getAttribute('alt'))"
            )
        assert not undrawn, path.name
        assert width <= 375, path.name
        assert not lost, path.name


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
