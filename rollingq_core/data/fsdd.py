"""The Free Spoken Digit Dataset: 3000 recordings of six speakers, found or downloaded.

Jakobovski et al., DOI 10.5281/zenodo.1342401, CC BY-SA 4.0; release 1.0.10. Each recording is
8000 samples per second, mono, named ``{digit}_{speaker}_{index}.wav``.
"""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rollingq_core._files import one_process_at_a_time
from rollingq_core.data import audio, store
from rollingq_core.data.listing import data_file, data_files

ARCHIVE_URL = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
)
LOCATION = Path("free-spoken-digit-dataset", "recordings")
# In the format of sha256sum, compressed.
MANIFEST = Path(__file__).parent / "fsdd-recordings.sha256.gz"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
MEMBER_LIMIT = 1 << 20


def read_manifest() -> dict[str, str]:
    """Return the SHA-256 of each recording by file name."""
    with gzip.open(MANIFEST, "rt", encoding="ascii") as file:
        return {name: sha256 for sha256, name in (line.split() for line in file)}


def recordings_folder(root: str | Path | None = None) -> Path:
    """Return the folder that holds all recordings, downloading them if no data root does.

    Raises
    ------
    ConnectionError
        If they have to be downloaded and can't be.
    ValueError
        If the downloaded archive lacks a recording, or one differs from the manifest.
    """
    names = read_manifest()
    for base in store.search_roots(root):
        if _holds_all(base / LOCATION, names):
            return base / LOCATION
    target = store.writable_root(root) / LOCATION
    with one_process_at_a_time(target):
        if not _holds_all(target, names):  # else another process has downloaded them meanwhile
            _download(target, names)
    return target


def spoken_recordings(root: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return all recordings as log-mel pictures, from the cache where possible.

    Returns
    -------
    dict of str to np.ndarray
        ``log_mel`` float32 ``[3000, 32, 49]``, ``digit`` and ``index`` int64 ``[3000]``,
        ``speaker`` ``[3000]`` as text.

    Raises
    ------
    ConnectionError
        If the recordings are neither there nor to be downloaded.
    ValueError
        If a recording differs from the manifest or can't be read.
    """
    manifest = read_manifest()
    key = store.fingerprint(sources=manifest, features=audio.log_mel_version())
    return store.cached_arrays("fsdd", key, lambda: _extract(manifest, root), root)


def _extract(manifest: dict[str, str], root: str | Path | None) -> dict[str, np.ndarray]:
    folder = recordings_folder(root)
    pictures = []
    for name, sha256 in manifest.items():
        path = data_file(folder, name)
        store.verify_file(path, sha256)
        pictures.append(audio.log_mel(audio.load_wave(path, audio.MEL_RATE)))
    return {"log_mel": np.stack(pictures), **read_names(manifest)}


def read_names(names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return ``digit``, ``speaker`` and ``index`` of recordings by what their names say."""
    digits, speakers, indices = zip(*(Path(name).stem.split("_") for name in names), strict=True)
    return {
        "digit": np.array(digits, dtype=np.int64),
        "speaker": np.array(speakers),
        "index": np.array(indices, dtype=np.int64),
    }


def _holds_all(folder: Path, names: Mapping[str, str]) -> bool:
    return names.keys() <= data_files(folder, ".wav").keys()


def _download(target: Path, manifest: dict[str, str]) -> None:
    # Beside the target, so that moving a verified file into place is one atomic step.
    folder = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)  # a process that was killed may have left it
    try:
        folder.mkdir(parents=True)
        archive = folder / "fsdd.tar.gz"
        try:
            # GitHub packs an archive anew at times, so its recordings are verified, not itself.
            store.fetch(ARCHIVE_URL, archive, None, "Free Spoken Digit Dataset")
        except ConnectionError as error:
            raise ConnectionError(
                f"{error} The recordings belong into {target}, as {{digit}}_{{speaker}}_"
                "{index}.wav."
            ) from error
        verified = _unpack(archive, folder, manifest)
        target.mkdir(exist_ok=True)
        for path in verified:
            path.replace(target / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: Path, folder: Path, manifest: dict[str, str]) -> list[Path]:
    paths = []
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = Path(member.name).name
                if name not in manifest or not member.isfile():
                    continue
                file = members.extractfile(member)
                assert file is not None  # else the member were no file
                content = file.read(MEMBER_LIMIT)
                if hashlib.sha256(content).hexdigest() != manifest[name]:
                    raise ValueError(f"{ARCHIVE_URL}: {name} differs from the known recording")
                (folder / name).write_bytes(content)
                paths.append(folder / name)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{ARCHIVE_URL}: the archive is damaged ({error}); nothing is kept, try again later"
        ) from error
    missing = sorted(set(manifest) - {path.name for path in paths})
    if missing:
        raise ValueError(
            f"{ARCHIVE_URL}: the archive lacks {len(missing)} recordings, such as {missing[0]}"
        )
    return paths
