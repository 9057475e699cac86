"""A disk that refuses what is larger than a limit, as a full one does in the middle of a file."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_room_for(most: int) -> Iterator[None]:
    """Let the system refuse to write files beyond `most` bytes, for this process and for as long as it is asked."""
    resource = pytest.importorskip("resource", reason="this system knows no limit of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
