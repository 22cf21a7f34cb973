"""The 10,000 images of MNIST's test file, found or downloaded, and read from IDX."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from rollingq_core.data import store
from rollingq_core.data.listing import data_file

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
LOCATION = Path("MNIST", "raw")
FILES = {
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path) -> np.ndarray:
    """Read a gzip-compressed IDX file of unsigned bytes.

    Parameters
    ----------
    path : str or Path
        Two zero bytes, the type, the number of dimensions, each size as a big-endian 32-bit
        number, then the values.

    Returns
    -------
    np.ndarray
        uint8, in the shape that the file states.

    Raises
    ------
    ValueError
        If the file is no such file, or its length is not what its header states.
    """
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"path: {path} is damaged or no gzip file: {error}") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        raise ValueError(f"path: {path} begins with {content[:4]!r}, expected IDX unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"path: {path} ends inside its header")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"path: {path} holds {len(content) - start} values, expected {shape} by its header"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_images(root: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 ``[10000, 28, 28]`` and labels int64 ``[10000]``.

    Raises
    ------
    ConnectionError
        If a file is neither in the data root nor to be downloaded.
    ValueError
        If a file's SHA-256 differs from the known one.
    """
    images, labels = (read_idx(_locate(name, sha256, root)) for name, sha256 in FILES.items())
    return images, labels.astype(np.int64)


def _locate(name: str, sha256: str, root: str | Path | None) -> Path:
    for base in store.search_roots(root):
        path = data_file(base / LOCATION, name)
        if path.is_file():
            store.verify_file(path, sha256)
            return path
    return store.fetch(MIRROR + name, store.writable_root(root) / LOCATION / name, sha256, "MNIST")
