"""Where data lies on disk: the data root, verified downloads, and caches that heal themselves."""

import hashlib
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import platformdirs

from rollingq_core._files import one_process_at_a_time, written_whole

ROOT_VARIABLE = "ROLLINGQ_DATA"
_SET_ROOT = f"set the environment variable {ROOT_VARIABLE} to a folder that can be written"
# What reading a damaged cache raises.
DAMAGE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)
SECONDS_TO_ANSWER = 60
PIECE = 1 << 20


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds datasets.

    The argument wins over the environment variable ``ROLLINGQ_DATA``, which wins over the user's
    cache folder. The folder may be read-only, and need not exist.

    Raises
    ------
    OSError
        If there is neither, and the user has no home folder.
    """
    chosen = root or os.environ.get(ROOT_VARIABLE)
    if not chosen:
        return user_folder()
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise OSError(f"{ROOT_VARIABLE}: got {chosen}, but {error}") from error


def writable_root(root: str | Path | None = None) -> Path:
    """Return the folder for downloads and caches: the data root, or else the user's cache.

    Raises
    ------
    OSError
        If neither can be written.
    """
    chosen = data_root(root)
    if is_writable(chosen):
        return chosen
    user = user_folder()
    if not is_writable(user):
        raise OSError(f"neither {chosen} nor {user} can be written; {_SET_ROOT}")
    return user


def search_roots(root: str | Path | None = None) -> list[Path]:
    """Return the folders to look for files in, best first."""
    roots = [data_root(root)]
    with suppress(OSError):
        roots.append(writable_root(root))
    return list(dict.fromkeys(roots))


def user_folder(program: str = "rollingq") -> Path:
    """Return a program's folder in the user's cache.

    Raises
    ------
    OSError
        If the user has no home folder.
    """
    try:
        folder = platformdirs.user_cache_path(program)
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():  # some versions give "~/.cache" as it is
        raise OSError(f"this user has no home folder; {_SET_ROOT}")
    return folder


def is_writable(folder: Path) -> bool:
    """Return whether a folder can be written, or made where it is not there yet."""
    # os.path has False where Path.exists raises, for a folder that may not be looked into.
    while not os.path.exists(folder):
        folder = folder.parent
    # A superuser may write anywhere; a folder whose mode forbids it to all is meant for reading.
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK | os.X_OK)


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(path: str | Path, sha256: str, *, text: bool = False) -> None:
    """Check a file against its known SHA-256.

    Parameters
    ----------
    path : str or Path
        The file.
    sha256 : str
        Known hash (hex).
    text : bool
        True hashes it with LF at the end of each line: git and editors may have put CRLF there.

    Raises
    ------
    ValueError
        If the content differs.
    """
    if text:
        content = Path(path).read_bytes().replace(b"\r\n", b"\n")
        actual = hashlib.sha256(content).hexdigest()
    else:
        actual = sha256_file(path)
    if actual != sha256:
        raise ValueError(
            f"path: {path} has SHA-256 {actual}, expected {sha256}; "
            "the file is damaged or another version: replace it, or delete it to fetch it again"
        )


def fingerprint(**ingredients) -> str:
    """Return 16 hex digits that name a set of JSON-serialisable parameters and source hashes."""
    text = json.dumps(ingredients, sort_keys=True)
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
    file = Path("cache", f"{name}-{version}.npz")
    try:
        for base in search_roots(root):
            with suppress(*DAMAGE):
                return _read_arrays(base / file)
        path = writable_root(root) / file
    except OSError as error:
        warnings.warn(f"cache {file} not written: {error}", RuntimeWarning, stacklevel=2)
        return dict(build())
    with one_process_at_a_time(path):
        if path.is_file():  # damaged, or another process has made it meanwhile
            try:
                return _read_arrays(path)
            except DAMAGE as error:
                warnings.warn(
                    f"cache {path} is damaged ({error}); building it again",
                    RuntimeWarning,
                    stacklevel=2,
                )
        arrays = dict(build())
        try:
            _write_arrays(path, arrays)
        except OSError as error:
            message = f"cache {path} not written: {error}; {_SET_ROOT}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    return arrays


def fetch(url: str, target: Path, sha256: str | None, what: str) -> Path:
    """Download a file to ``target``, which appears only once it is whole and verified.

    Parameters
    ----------
    url : str
        Address.
    target : Path
        File to create; its folder is made if need be. If another process has made it meanwhile,
        it is only verified.
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
    OSError
        If the disk is full or the folder can't be written.
    """
    by_hand = (
        f"Fetch it on a connected machine and put it there, or set {ROOT_VARIABLE} to a folder "
        "that holds it."
    )
    with one_process_at_a_time(target):
        if not target.is_file():
            with written_whole(target) as file:
                try:
                    _download(url, file)
                except ConnectionError as error:
                    message = f"{what}: could not download {url} to {target} ({error}). {by_hand}"
                    raise ConnectionError(message) from error
                file.flush()
                actual = sha256_file(file.name)
                if actual != (sha256 or actual):
                    raise ValueError(
                        f"{what}: {url} gave a file with SHA-256 {actual}, expected {sha256}; "
                        f"nothing is kept. Try again later. {by_hand} It belongs to {target}."
                    )
        elif sha256:
            verify_file(target, sha256)
    return target


def _download(url: str, file: BinaryIO) -> None:
    import pooch
    import requests

    with ExitStack() as answers:

        def close_later(answer: requests.Response, **_: object) -> None:
            answers.callback(answer.close)  # pooch leaves it open

        fetch_to = pooch.HTTPDownloader(
            timeout=SECONDS_TO_ANSWER, chunk_size=PIECE, hooks={"response": close_later}
        )
        try:
            fetch_to(url, file, None)
        except requests.exceptions.RequestException as error:
            raise ConnectionError(type(error).__name__) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    # numpy leaves a damaged file open when it opens it itself.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # On a full disk a zip file would fail a second time when it is closed; memory doesn't.
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    with written_whole(path) as file:
        file.write(content.getbuffer())
