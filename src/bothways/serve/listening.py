"""Open the sockets that the server listens on: addresses, host names, all interfaces, or a Unix domain socket.

A socket that is open refuses a second server on the same address, and queues connections until they are accepted.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import cast

from bothways.errors import AddressUnusable, path_text, quoted
from bothways.serve.settings import Settings

BACKLOG = 1024
"""Number of connections that wait to be accepted. Further ones are refused by the system."""
_EVERY_INTERFACE = ("*", "::")
_MODE_OF_UNIX_SOCKET = 0o666
_CONNECT_TIMEOUT_S = 1.0


def open_sockets(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets of a server: one, or one per address of a host name such as ``localhost``.

    Raises:
        AddressUnusable: The host can't be resolved, or an address is in use or is not one of this machine.
    """
    if settings.uds is not None:
        return [_unix_socket(Path(settings.uds))]
    host = settings.host.strip().removeprefix("[").removesuffix("]")
    if host.startswith("unix:"):
        path = "/" + host.removeprefix("unix:").lstrip("/")
        raise AddressUnusable(f"the host {quoted(host)} is the path of a Unix domain socket: use --uds {path}")
    if host in _EVERY_INTERFACE and socket.has_dualstack_ipv6():
        return [_tcp_socket(socket.AF_INET6, ("::", settings.port), is_dual=True)]
    if host == "::" and not socket.has_ipv6:
        raise AddressUnusable("this machine has no IPv6: use --host 0.0.0.0")
    sockets: list[socket.socket] = []
    port = settings.port
    try:
        for family, address in _resolved("0.0.0.0" if host in _EVERY_INTERFACE else host, port):  # noqa: S104
            sockets.append(_tcp_socket(family, (address[0], port, *address[2:]), is_dual=False))
            port = port or sockets[0].getsockname()[1]  # one free port for all addresses
    except AddressUnusable:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _resolved(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Return the addresses of a host, each once. IPv6 addresses that this machine lacks are left out if there is IPv4.

    Containers often resolve ``localhost`` to ``::1`` as well, without an interface that has it.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a valid host name"
        raise AddressUnusable(f"the host {quoted(host)} can't be resolved: {reason}") from None
    addresses = list(dict.fromkeys((int(family), tuple(address)) for family, _, _, _, address in found))
    usable = [item for item in addresses if item[0] != socket.AF_INET6 or _has_address(item[1])]
    return usable or addresses


def _has_address(address: tuple[object, ...]) -> bool:
    """Return whether an IPv6 address is one of this machine."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(cast(tuple[str, int, int, int], (address[0], 0, *address[2:])))
    except OSError:
        return False
    return True


def _tcp_socket(family: int, address: tuple[object, ...], *, is_dual: bool) -> socket.socket:
    opened: socket.socket | None = None
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if is_dual else 1)
        opened.bind(cast(tuple[str, int], address))
        opened.listen(BACKLOG)
    except OSError as error:
        if opened is not None:
            opened.close()
        where = _joined(str(address[0]), address[1])
        raise AddressUnusable(f"can't listen on {where}: {error.strerror}") from None
    opened.setblocking(False)
    return opened


def _unix_socket(path: Path) -> socket.socket:
    """Return a socket at a path that any user may connect to. The socket of a server that has crashed is replaced."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_abandoned(path)
        opened.bind(os.fspath(path))
        path.chmod(_MODE_OF_UNIX_SOCKET)
        opened.listen(BACKLOG)
    except (OSError, ValueError) as error:  # ValueError: a null character
        opened.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AddressUnusable(f"can't listen on {path_text(path)}: {reason}") from None
    opened.setblocking(False)
    return opened


def _remove_abandoned(path: Path) -> None:
    """Remove a socket that nothing listens on. Anything else at the path makes binding fail."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def url_of(opened: socket.socket, scheme: str = "http") -> str:
    """Return the address of a listening socket as a URL, or ``unix:PATH``."""
    address = opened.getsockname()
    if opened.family == socket.AF_UNIX:
        return f"unix:{path_text(address)}"
    return f"{scheme}://{_joined(address[0], address[1])}"


def _joined(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def close_socket(opened: socket.socket) -> None:
    """Close a listening socket, and remove the file of a Unix domain socket."""
    path = opened.getsockname() if opened.family == socket.AF_UNIX else ""
    opened.close()
    if path:
        Path(path).unlink(missing_ok=True)
