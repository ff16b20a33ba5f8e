"""A signal reaches the server's event loop, however busy it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable

import pytest

from bothways.serve.signals import signal_handlers

pytestmark = pytest.mark.enable_socket

NUMBER = signal.SIGUSR1


def arrives(send: Callable[[asyncio.AbstractEventLoop], None], *, by_asyncio: bool = False) -> bool:
    """Return whether a signal arrives within a second of being sent in the event loop."""

    async def run() -> bool:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.ExitStack() as stack:
            if by_asyncio:
                loop.add_signal_handler(NUMBER, arrived.set)
                stack.callback(loop.remove_signal_handler, NUMBER)
            else:
                stack.enter_context(signal_handlers({NUMBER: arrived.set}))
            send(loop)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(arrived.wait(), 1)
        return arrived.is_set()

    return asyncio.run(run())


def send_while_busy(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(10_000):  # as other threads do when many parts of bodies have arrived
        loop.call_soon_threadsafe(int)
    os.kill(os.getpid(), NUMBER)


def send_to_another_thread(_: asyncio.AbstractEventLoop) -> None:
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), NUMBER))
    thread.start()
    thread.join()


def send_from_another_thread_later(_: asyncio.AbstractEventLoop) -> None:
    threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), NUMBER)).start()


def test_a_signal_arrives_while_the_event_loop_is_being_woken_for_other_reasons() -> None:
    assert arrives(send_while_busy)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_asyncio_itself_loses_such_a_signal() -> None:
    """If this fails, asyncio has been mended, and ``serve/signals.py`` is not needed any more."""
    assert not arrives(send_while_busy, by_asyncio=True)


@pytest.mark.parametrize("send", [send_to_another_thread, send_from_another_thread_later])
def test_a_signal_that_interrupts_another_thread_wakes_the_event_loop(
    send: Callable[[asyncio.AbstractEventLoop], None],
) -> None:
    assert arrives(send)


def test_each_signal_is_handled() -> None:
    async def run() -> int:
        arrived: list[int] = []
        with signal_handlers({NUMBER: lambda: arrived.append(1)}):
            for _ in range(3):
                os.kill(os.getpid(), NUMBER)
                await asyncio.sleep(0.05)
        return len(arrived)

    assert asyncio.run(run()) == 3


def test_the_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(NUMBER)
    assert arrives(send_while_busy)
    assert signal.getsignal(NUMBER) == before
    assert signal.set_wakeup_fd(-1) == -1
