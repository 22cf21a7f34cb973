"""The first code cell of every chapter, which installs the package on Colab."""

TAG = "hide-cell"

_CELL = """\
from importlib.util import find_spec

if find_spec("rollingq_core") is None:  # on Colab: install the book's package
    from IPython import get_ipython

    package = "rollingq-core @ git+{url}"
    get_ipython().run_line_magic("pip", f'install -q "{{package}}"')"""


def install_cell(url):
    """Return the source of the cell for the repository at ``url``."""
    return _CELL.format(url=url)
