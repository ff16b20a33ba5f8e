"""Keep inference sessions usable in processes that are forked after the sessions were made.

A forked process has none of its parent's threads. A session with threads would wait for them or crash: while it runs,
or at the latest when it is freed. So a forked process never frees the sessions of its parent, and makes those with
threads again when it first needs them. Sessions with one thread are used as they are, and share their memory.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from bothways.errors import ConfigError


class Session:
    """An inference session that can be used after a fork."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        threads: int,
        again: Callable[[], onnxruntime.InferenceSession] | None = None,
    ) -> None:
        """Hold a session.

        Args:
            session: The session.
            threads: Its number of threads, including the one that runs it.
            again: Makes the same session again. Defaults to not being able to. Must not refer to the owner of this
                object, which would then be freed late.
        """
        self._session: onnxruntime.InferenceSession | None = session
        self._threads, self._again = threads, again
        self._lock = threading.Lock()
        _sessions.add(self)

    def run(self, feed: dict[str, NDArray[Any]]) -> list[Any]:
        """Return all outputs for the inputs by name.

        Raises:
            ConfigError: The session can't be made again in this process.
            BundleError: The bundle that the session was made from can't be read again.
        """
        session = self._session or self._made_again()
        results: list[Any] = session.run(None, feed)
        return results

    def _made_again(self) -> onnxruntime.InferenceSession:
        with self._lock:
            if self._session is None:
                if self._again is None:
                    raise ConfigError(
                        f"the model was loaded with {self._threads} threads before this process was forked: load it "
                        "after the fork, or with threads=1"
                    )
                self._session = self._again()
            return self._session

    def _forked(self) -> None:
        """Prepare for use in a forked process."""
        self._lock = threading.Lock()  # a thread of the parent may have held it
        if self._session is not None and self._threads > 1:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))  # never freed, not even when Python ends
            self._session = None


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
