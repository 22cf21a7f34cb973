"""librosa, with a place for the code that numba compiles for it."""

import atexit
import os
import shutil
import sys
import tempfile
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
    beside = Path(find_spec("librosa").origin).parent / "__pycache__"
    places = [beside]
    try:
        places.append(user_folder("numba"))
    except OSError:
        _import_without_home()
    if os.environ.get(VARIABLE):
        places.append(Path(os.environ[VARIABLE]))
    if not any(map(is_writable, places)):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="numba-")
        atexit.register(shutil.rmtree, os.environ[VARIABLE], ignore_errors=True)
        if "numba" in sys.modules:  # which has read the variable already
            sys.modules["numba"].config.reload_config()
    return import_module("librosa")


def _import_without_home() -> None:
    """Import the parts of librosa that ask for the user's folder, though it is never used."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = tempfile.gettempdir()
    try:
        import_module("librosa.util.files")
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
