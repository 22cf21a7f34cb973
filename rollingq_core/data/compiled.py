"""librosa, with a place for the code that numba compiles for it."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from rollingq_core.data.store import is_writable, user_folder

VARIABLE = "NUMBA_CACHE_DIR"


def load_librosa() -> ModuleType:
    """Import librosa, even where this user can write neither its folder nor a home folder.

    numba keeps compiled code beside librosa, or in the user's cache folder, and refuses to compile
    where it can write neither. Then the code is kept until the process ends.
    """
    spec = find_spec("librosa")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("librosa is missing", name="librosa")
    places = [Path(spec.origin).parent / "__pycache__"]
    if os.environ.get(VARIABLE):
        places.append(Path(os.environ[VARIABLE]))
    with suppress(OSError):
        places.append(user_folder("numba"))
    if not any(map(is_writable, places)):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="numba-")
        atexit.register(shutil.rmtree, os.environ[VARIABLE], ignore_errors=True)
        if "numba" in sys.modules:  # which has read the variable already
            sys.modules["numba"].config.reload_config()
    with _some_home():
        import_module("librosa.util.files")
    return import_module("librosa")


@contextmanager
def _some_home() -> Iterator[None]:
    """Let librosa ask for the user's cache folder, which it does as it is imported."""
    try:
        user_folder("librosa")
    except OSError:
        os.environ["XDG_CACHE_HOME"] = tempfile.gettempdir()
        try:
            yield
        finally:
            del os.environ["XDG_CACHE_HOME"]
    else:
        yield
