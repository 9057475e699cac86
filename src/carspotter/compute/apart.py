"""Call a function in a process of its own, for libraries that take their process with them when they fail.

The function travels by pickle, as does what it returns. What it writes to its standard error is kept back, since such
libraries talk there past Python; its last line is told where the process dies. It retries nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from carspotter.compute.stage import reason
from carspotter.compute.workers import death, end_with_parent
from carspotter.errors import CarspotterError, ComputeError

Result = TypeVar("Result")


def apart(work: Callable[[], Result]) -> Result:
    """Return `work()`; raises what it raises of our own errors, ComputeError for any other and for a death."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(theirs, str(said), work), daemon=True)
        process.start()
        theirs.close()  # or its death would not close the pipe
        try:
            is_done, outcome = ours.recv()
        except EOFError:
            raise ComputeError(f"the process was {death(process)}{_last_words(said)}") from None
        finally:
            ours.close()
            process.kill()
            process.join()
    if not is_done:
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _serve(pipe: Connection, said: str, work: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what becomes of it
    end_with_parent()
    # The descriptor itself, since libraries in C++ do not ask Python where to write.
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    try:
        outcome: tuple[bool, Any] = True, work()
    except CarspotterError as error:
        outcome = False, error
    except Exception as error:  # noqa: BLE001  # reported to the parent, which raises it
        outcome = False, ComputeError(reason(error))
    pipe.send(outcome)


def _last_words(said: Path) -> str:
    """Return the last line that a dead process wrote."""
    lines = said.read_text(encoding="utf-8", errors="replace").split("\n") if said.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f" ({last[:200]})" if last else ""
