"""What is said where a library of an extra is missing: which extra to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(*extras: str) -> Iterator[None]:
    """Name the extras to install where the code in this block finds a library missing.

    Blocks stand in one another where a room imports another one; the outermost has the last word,
    as it knows what was asked for.

    Raises
    ------
    ModuleNotFoundError
        A library is missing; its name stays in the error's ``name``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "rollingq_core"):
            raise
        wanted = f'pip install "rollingq-core[{",".join(extras)}]"'
        raise ModuleNotFoundError(
            f"{library} is missing; install it with: {wanted}", name=error.name
        ) from None
