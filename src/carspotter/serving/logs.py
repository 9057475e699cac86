"""Write log records to stderr, one JSON object a line.

What a client sent never stands in a line: no query, no URL of a photo, no file name, no address, no key; a key's
holder does, by name.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

FIELDS = ("request_id", "method", "route", "status", "code", "milliseconds", "photos", "client")


class JsonLines(logging.Formatter):
    """Write a record as JSON; a traceback stays one string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: str) -> None:
    """Send the service's records and uvicorn's, of at least this level, to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers = [handler]  # what libraries say would otherwise reach stderr as plain text
    for name in ("carspotter.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.setLevel(level.upper())
    # It warns of every byte of a broken form, as its sender pleases; the form is refused, and that is logged.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
