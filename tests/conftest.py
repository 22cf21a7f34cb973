"""Settings shared by all tests."""

import os
import subprocess

import pytest
from hypothesis import settings
from joblib.externals.loky import get_reusable_executor

from tests.browser import CHROMIUM, FLAGS

# One thread a worker: the tests run two at a time, and small tensors gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on each run, and no deadline: a first call may compile or load a library.
settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")


@pytest.fixture(scope="module", autouse=True)
def _no_idle_workers():
    """End joblib's workers with the module: they time out, and must not while they are wanted."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="session")
def root(pytestconfig):
    """Return the repository's root."""
    return pytestconfig.rootpath


@pytest.fixture
def small_disk():
    """Return a function that puts a disk of a size such as ``64k`` at a new folder."""
    folders = []

    def mount(folder, size):
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk needs more rights than these tests have")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()
