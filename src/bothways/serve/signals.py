"""Handle signals in an event loop, however busy it is.

``add_signal_handler`` of asyncio can lose a signal: its number passes through the socket by which other threads wake
the event loop, and that is full while some hundred parts of bodies wait to be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

_DRAINED_BYTES = 4096


@contextlib.contextmanager
def signal_handlers(handlers: Mapping[int, Callable[[], object]]) -> Iterator[None]:
    """Call a function in the running event loop when a signal arrives. To be called in the main thread.

    Args:
        handlers: The functions by the number of the signal.
    """
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        # The system may interrupt another thread, and the main thread would wait for its next event.
        woken, waking = map(stack.enter_context, socket.socketpair())
        woken.setblocking(False)
        waking.setblocking(False)
        loop.add_reader(woken, _drain, woken)
        stack.callback(loop.remove_reader, woken)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)  # full: it is being woken already
        stack.callback(signal.set_wakeup_fd, before)
        for number, handle in handlers.items():
            # Python remembers that a signal arrived until the main thread calls this.
            handler = signal.signal(number, partial(_call, loop, handle))
            stack.callback(signal.signal, number, handler)
        yield


def _call(loop: asyncio.AbstractEventLoop, handle: Callable[[], object], *_: object) -> None:
    loop.call_soon_threadsafe(handle)


def _drain(woken: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        woken.recv(_DRAINED_BYTES)
