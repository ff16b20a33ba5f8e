"""Loading and serving a bundle looks up no host, opens no socket but the server's own, and writes no file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import python_environment, run_python

LOAD = "import sys, bothways; print(bothways.load(sys.argv[1]).predict(['what a lovely film'])[0])"
SERVE = """
import os, signal, sys, threading, time, urllib.request, socket
import bothways
from bothways.serve.server import serve

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

def stop():
    for _ in range(300):
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).status == 200:
                break
        except OSError:
            time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop, daemon=True).start()
serve(["m=" + sys.argv[1]], {"port": port})
"""


@pytest.mark.parametrize("code", [LOAD, SERVE], ids=["load", "serve"])
def test_nothing_is_written_into_the_home_directory(code: str, bundle_path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**python_environment(), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    finished = subprocess.run(
        [sys.executable, "-c", code, str(bundle_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    assert list(home.rglob("*")) == []
    assert list(tmp_path.iterdir()) == [home]


def test_what_a_user_decides_of_telemetry_is_left_as_it_is() -> None:
    name = "ORT_DISABLE_TELEMETRY"
    code = f"import os; os.environ[{name!r}] = '0'; import bothways; print(os.environ[{name!r}])"
    assert run_python(code).stdout == "0\n"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("code", [LOAD, SERVE], ids=["load", "serve"])
def test_no_socket_but_the_servers_own_is_opened(code: str, bundle_path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg,bind", "-o", str(trace), sys.executable, "-c", code]
    environment = {**python_environment(), "HOME": os.fspath(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    finished = subprocess.run(
        [*command, str(bundle_path)], capture_output=True, check=False, timeout=120, env=environment
    )
    if finished.returncode and "ptrace" in finished.stderr.decode():
        pytest.skip("this machine does not let strace look")
    assert finished.returncode == 0, finished.stderr
    families = set(re.findall(r"sa_family=(AF_\w+)", trace.read_text()))
    addresses = set(re.findall(r'inet_addr\("([^"]+)"\)', trace.read_text()))
    assert families <= ({"AF_INET", "AF_NETLINK"} if code is SERVE else set())
    assert addresses <= {"127.0.0.1"}
