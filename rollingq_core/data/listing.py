"""Which files of a folder are data: the one rule for all datasets."""

from pathlib import Path


def data_files(folder: str | Path, *endings: str) -> dict[str, Path]:
    """Return the files with one of these endings, sorted by name.

    The case of an ending does not matter: ``a.WAV`` is the data ``a.wav``. Hidden files (``.x``,
    also macOS's ``._a.wav``, and ``~$x``) are no data, and neither are folders.

    Parameters
    ----------
    folder : str or Path
        Where to look; it need not exist.
    *endings : str
        In lower case, such as ``".wav"``.

    Returns
    -------
    dict of str to Path
        Each file by its name with the ending in lower case.

    Raises
    ------
    ValueError
        If two names differ only in the case of their ending.
    """
    files: dict[str, Path] = {}
    folder = Path(folder)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ending = path.suffix.lower()
        if ending not in endings or path.name.startswith((".", "~$")) or not path.is_file():
            continue
        name = path.stem + ending
        if name in files:
            raise ValueError(
                f"folder: got both {files[name]} and {path.name}, expected one file of that name"
            )
        files[name] = path
    return dict(sorted(files.items()))


def data_file(folder: str | Path, name: str) -> Path:
    """Return one file by its name as in :func:`data_files`; it need not exist."""
    path = Path(folder) / name
    if path.is_file():
        return path
    return data_files(folder, path.suffix).get(name, path)
