"""A function in a process of its own: what it returns, its errors, and its death."""

import os
from functools import partial

import pytest

from carspotter.compute.apart import apart
from carspotter.errors import BundleError, ComputeError, MissingExtraError


def pid_after(words: str) -> int:
    """Say something on the standard error's descriptor, as a library in C++ does, and tell the process."""
    os.write(2, words.encode())
    return os.getpid()


def abort(words: str) -> None:
    """End as a library in C++ that finds its memory broken."""
    os.write(2, words.encode())
    os.abort()


def fail(error: Exception) -> None:
    """Raise it."""
    raise error


def test_it_runs_elsewhere_and_keeps_the_noise_back(capfd: pytest.CaptureFixture[str]) -> None:
    assert apart(partial(pid_after, "WARNING: all log messages\n")) != os.getpid()
    assert capfd.readouterr().err == ""


def test_a_death_is_an_error_with_its_last_words() -> None:
    with pytest.raises(ComputeError, match=r"killed by SIGABRT \(double free or corruption \(!prev\)\)"):
        apart(partial(abort, "INFO: created\ndouble free or corruption (!prev)\n\n"))


def test_an_end_without_a_word_is_an_error_too() -> None:
    with pytest.raises(ComputeError, match=r"the process was ended with exit code 3$"):
        apart(partial(os._exit, 3))


@pytest.mark.parametrize("error", [BundleError("photos are float32"), MissingExtraError("litert-torch", "phone")])
def test_our_errors_come_back_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        apart(partial(fail, error))
    assert str(caught.value) == str(error)


def test_any_other_error_comes_back_in_words() -> None:
    with pytest.raises(ComputeError, match="RuntimeError: failed to create XNNPACK runtime"):
        apart(partial(fail, RuntimeError("failed to create XNNPACK runtime")))
