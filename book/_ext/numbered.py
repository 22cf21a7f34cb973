"""Number the figures and tables of each chapter in their order: Figure 7.1, Table 7.1."""

import re
from itertools import count

KINDS = {"figcaption": "Figure", "caption": "Table"}


def number(body, chapter):
    """Return a page's body with a number before each caption."""
    numbers = {tag: count(1) for tag in KINDS}

    def numbered(found):
        kind, place = KINDS[found["tag"]], next(numbers[found["tag"]])
        anchor = f"{kind.lower()}-{chapter}-{place}"
        return f'{found[0]}<span id="{anchor}">{kind} {chapter}.{place}.</span> '

    return re.sub(r"<(?P<tag>figcaption|caption)\b[^>]*>", numbered, body)


def number_page(app, pagename, templatename, context, doctree):
    chapter = re.match(r"notebooks/(\d+)_", pagename)
    if chapter and "body" in context:
        context["body"] = number(context["body"], int(chapter[1]))


def setup(app):
    app.connect("html-page-context", number_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
