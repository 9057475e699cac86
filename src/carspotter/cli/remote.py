"""A recognizer for `identify` that asks a service instead of running networks.

A path or URL is read here, with this machine's credentials, and its bytes are sent; the service never learns the name.
A photo that cannot be read, here or there, is a prediction with an error; a service that cannot be asked at all ends
the run. It draws and prints nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from carspotter import storage
from carspotter.client import Client, ServerError
from carspotter.errors import CarspotterError
from carspotter.records import PhotoError, Prediction

REQUESTS_AT_ONCE = 4
"""Enough that one photo is sent while another is recognised, and the service can batch them."""

# These are said of one photo: sent too slowly, too large, no picture's format, unreadable, not done in time.
_OF_ONE_PHOTO = (408, 413, 415, 422, 504)


class RemoteRecognizer:
    """Recognise by a service; stands where `identify` uses a Recognizer."""

    def __init__(self, client: Client, *, select: str, top: int) -> None:
        """Take the client, which vehicles of a photo are wanted, and how many candidates per level."""
        self._client = client
        self._select = select
        self._top = top

    def recognize_batch(self, photos: Iterable[str | bytes]) -> Generator[Prediction, None, None]:
        """Yield the prediction of each photo in order, a few requests at once.

        Raises ServerError where the service cannot be reached, refuses the key, or stays busy.
        """
        waiting: deque[Future[Prediction]] = deque()
        coming = iter(photos)
        pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="ask")
        try:
            waiting.extend(pool.submit(self._recognize, photo) for photo in islice(coming, REQUESTS_AT_ONCE))
            while waiting:
                prediction = waiting.popleft().result()
                waiting.extend(pool.submit(self._recognize, photo) for photo in islice(coming, 1))
                yield prediction
        finally:
            pool.shutdown(cancel_futures=True)

    def _recognize(self, photo: str | bytes) -> Prediction:
        name = "" if isinstance(photo, bytes) else photo
        try:
            data = photo if isinstance(photo, bytes) else storage.read(photo)
            return self._client.photo(data, select=self._select, top=self._top)
        except ServerError as error:
            if error.status not in _OF_ONE_PHOTO:
                raise
            return Prediction(photo=name, error=PhotoError(type=error.problem or error.code, message=str(error)))
        except CarspotterError as error:
            return Prediction(photo=name, error=PhotoError.of(error))
