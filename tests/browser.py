"""A real browser for the tests: pages from the disk, with the network cut."""

import re
import shutil

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Noise of the theme itself when a page is opened from the disk.
KNOWN_NOISE = re.compile(
    r"Got invalid theme mode|fontawesome.*blocked by CORS|Failed to load resource: net::ERR_FAILED"
)


class Visit:
    """One page in the browser, and what it asked for and complained about."""

    def __init__(self, browser, path, width=1280, scheme="light", query=""):
        self.requests, self.errors = [], []
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.hear)
        self.page.goto(path.as_uri() + query)
        self.page.wait_for_load_state("load")
        # MathJax, where the page has it, says when it is done.
        self.page.evaluate("window.MathJax?.startup?.promise")

    def hear(self, message):
        if message.type == "error" and not KNOWN_NOISE.search(message.text):
            self.errors.append(message.text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()
