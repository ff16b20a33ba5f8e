"""Every name of an address is listened on, or is one line of an error (F4)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bothways.errors import AddressUnusable
from bothways.serve.listening import close_socket, open_sockets, url_of
from bothways.serve.settings import Settings

pytestmark = pytest.mark.enable_socket


@contextlib.contextmanager
def opened(**settings: object) -> Iterator[list[socket.socket]]:
    found = open_sockets(Settings.model_validate({"port": 0, **settings}))
    try:
        yield found
    finally:
        for each in found:
            close_socket(each)


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("localhost", ["127.0.0.1"]),
        (socket.gethostname(), []),
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("*", ["127.0.0.1", "::1"]),
        ("::", ["127.0.0.1", "::1"]),
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
    ],
)
def test_a_host_is_an_address_a_name_or_every_interface(host: str, reachable: list[str]) -> None:
    if "::1" in reachable and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with opened(host=host) as sockets:
        port = sockets[0].getsockname()[1]
        assert {each.getsockname()[1] for each in sockets} == {port}
        assert url_of(sockets[0]).startswith("http://")
        for address in reachable or [sockets[0].getsockname()[0]]:
            socket.create_connection((address, port), timeout=5).close()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no-such-host.invalid", "the host 'no-such-host.invalid' can't be resolved: "),
        ("a..b", "the host 'a..b' can't be resolved: "),
        ("x" * 300, "can't be resolved: "),
        ("unix:/run/b.sock", "use --uds /run/b.sock"),
        ("192.0.2.1", "can't listen on 192.0.2.1:0: Cannot assign requested address"),
    ],
)
def test_a_host_that_can_not_be_listened_on_is_one_line(host: str, message: str) -> None:
    with pytest.raises(AddressUnusable) as caught, opened(host=host):
        pass
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    with opened(host="127.0.0.1") as sockets:
        port = sockets[0].getsockname()[1]
        for host in ("127.0.0.1", "localhost", "0.0.0.0", "*"):
            with pytest.raises(AddressUnusable, match=r"can't listen on .*: Address already in use"):
                open_sockets(Settings(host=host, port=port))


def test_a_unix_domain_socket_is_replaced_if_its_server_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is limited to about a hundred bytes
    path = Path("b.sock")
    crashed = open_sockets(Settings(uds="b.sock"))[0]
    crashed.close()
    assert path.is_socket()
    with opened(uds="b.sock") as sockets:
        assert url_of(sockets[0]) == "unix:b.sock"
        assert path.stat().st_mode & 0o777 == 0o666
        with pytest.raises(AddressUnusable, match=r"can't listen on b\.sock: Address already in use"):
            open_sockets(Settings(uds="b.sock"))
    assert not os.path.lexists(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "can't listen on file: Address already in use"),
        ("missing/b.sock", "can't listen on missing/b.sock: No such file"),
        ("b" * 200, "AF_UNIX path too long"),
        ("b\0", "null"),
    ],
)
def test_a_path_that_can_not_be_listened_on_is_one_line(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("precious")
    with pytest.raises(AddressUnusable) as caught, opened(uds=path):
        pass
    assert message in str(caught.value)
    assert Path("file").read_text() == "precious"
