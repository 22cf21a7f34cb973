"""Where data lies on disk: the data root, verified downloads, and caches that heal themselves."""

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import platformdirs

ROOT_VARIABLE = "ROLLINGQ_DATA"


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds datasets.

    The argument wins over the environment variable ``ROLLINGQ_DATA``, which wins over the user's
    cache folder. The folder may be read-only, and need not exist.
    """
    chosen = root or os.environ.get(ROOT_VARIABLE)
    return Path(chosen).expanduser() if chosen else _user_folder()


def writable_root(root: str | Path | None = None) -> Path:
    """Return the folder for downloads and caches: the data root, or else the user's cache."""
    chosen = data_root(root)
    return chosen if _is_writable(chosen) else _user_folder()


def search_roots(root: str | Path | None = None) -> list[Path]:
    """Return the folders to look for files in, best first."""
    return list(dict.fromkeys([data_root(root), writable_root(root)]))


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(path: str | Path, sha256: str) -> None:
    """Check a file against its known SHA-256.

    Raises
    ------
    ValueError
        If the content differs.
    """
    found = sha256_file(path)
    if found != sha256:
        raise ValueError(
            f"path: {path} has SHA-256 {found}, expected {sha256}; "
            "the file is damaged or another version: replace it, or delete it to fetch it again"
        )


def fingerprint(**parts) -> str:
    """Return 16 hex digits that name a set of JSON-serialisable parameters and source hashes."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached_arrays(
    name: str,
    version: str,
    build: Callable[[], Mapping[str, np.ndarray]],
    root: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Return named arrays from the cache, building and storing them when they are not there.

    Parameters
    ----------
    name : str
        What the arrays are; begins the file's name.
    version : str
        Key of everything they depend on, such as :func:`fingerprint` gives. Another version is
        another file, so a stale cache is never read.
    build : callable
        Makes the arrays; called only when the cache does not hold them.
    root : str or Path, optional
        Data root, as in :func:`data_root`.

    Returns
    -------
    dict of str to np.ndarray

    Warns
    -----
    RuntimeWarning
        If the cached file is damaged (it is rebuilt), or the cache can't be written (the arrays
        are returned all the same).
    """
    path = writable_root(root) / "cache" / f"{name}-{version}.npz"
    if path.is_file():
        try:
            # numpy leaves a damaged file open when it opens it itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(
                f"cache {path} is damaged ({error}); building it again",
                RuntimeWarning,
                stacklevel=2,
            )
    arrays = dict(build())
    try:
        _write_arrays(path, arrays)
    except OSError as error:
        warnings.warn(f"cache {path} not written: {error}", RuntimeWarning, stacklevel=2)
    return arrays


def fetch(url: str, target: Path, sha256: str | None, what: str) -> Path:
    """Download a file to ``target``, which appears only once it is whole and verified.

    Parameters
    ----------
    url : str
        Address.
    target : Path
        File to create; its folder is made if need be.
    sha256 : str or None
        Known hash (hex); None if the caller verifies the content itself.
    what : str
        Name of the data, for messages.

    Raises
    ------
    ConnectionError
        If the address can't be reached; says what is missing and where to put it.
    ValueError
        If the content has another hash.
    """
    import pooch
    import requests

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            url,
            known_hash=sha256 and f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(timeout=60),
        )
    except requests.exceptions.RequestException as error:
        raise ConnectionError(
            f"{what}: could not download {url} to {target} ({type(error).__name__}). "
            f"Fetch it on a connected machine and put it there, or set {ROOT_VARIABLE} to a "
            f"folder that holds it."
        ) from error
    return target


def _user_folder() -> Path:
    return platformdirs.user_cache_path("rollingq")


def _is_writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    # A superuser may write anywhere; a folder whose mode forbids it to all is meant for reading.
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK | os.X_OK)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
