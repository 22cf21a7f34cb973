"""Make the built book complete in itself: no page asks any other host for anything."""

import shutil
from importlib.util import find_spec
from pathlib import Path

# Three of the parts of MathJax are enough to typeset, 2 MB instead of 24.
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def copy_mathjax(app, exception=None):
    """Copy MathJax from the installed package into the built pages."""
    if exception or app.builder.format != "html":
        return
    package = find_spec("sphinx-mathjax-offline").submodule_search_locations[0]
    source = Path(package) / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)


def drop_unused_scripts(app, pagename, templatename, context, doctree):
    """Leave out sphinx-thebe's script, which declares a constant twice: an error on each page."""

    def wanted(script):
        name = str(getattr(script, "filename", None) or "")
        body = (getattr(script, "attributes", None) or {}).get("body", "")
        return "sphinx-thebe" not in name and "THEBE_JS_URL" not in body

    if context.get("script_files"):
        context["script_files"] = [s for s in context["script_files"] if wanted(s)]


def setup(app):
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", drop_unused_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
