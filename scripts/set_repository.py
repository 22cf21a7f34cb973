"""Set the repository's address in _config.yml and in every file that repeats it.

Example: python scripts/set_repository.py https://github.com/OWNER/NAME
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
URL = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def slug(url):
    """Return ``owner/name`` of a GitHub address; Colab and Binder links are made from it."""
    match = URL.fullmatch(url)
    if match is None:
        raise ValueError(f"url: got {url!r}, expected https://github.com/OWNER/NAME")
    return match.group(1)


def current(root=ROOT):
    """Return the address that _config.yml sets."""
    text = (root / "_config.yml").read_text(encoding="utf-8")
    return re.search(r"^repository:\n\s+url:\s*(\S+)", text, flags=re.MULTILINE).group(1)


def derived(root=ROOT):
    """Return the files that repeat the address."""
    notebooks = [*root.glob("notebooks/*.py"), *root.glob("notebooks/*.ipynb")]
    named = ["_config.yml", "README.md", "CITATION.cff", "pyproject.toml"]
    return [root / name for name in named] + sorted(notebooks)


def set_repository(url, root=ROOT):
    """Replace the old address by ``url`` everywhere; return the files that changed."""
    old, new = slug(current(root)), slug(url)
    changed = []
    for path in derived(root):
        before = path.read_text(encoding="utf-8")
        after = re.sub(rf"{re.escape(old)}(?![\w-])", new, before)
        if after != before:
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_text(after, encoding="utf-8")
            os.replace(temporary, path)
            changed.append(path)
    return changed


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.exit(f"{__doc__.strip()}\nNow set: {current()}")
    try:
        changed = set_repository(arguments[0])
    except ValueError as error:
        sys.exit(str(error))
    for path in changed:
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
