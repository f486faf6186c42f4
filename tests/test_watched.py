"""The watch sees what it is there for, and telemetry is declined without anybody's choice being touched."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from watched import Watched, contacts, namespace, tracer, watched

from veriquant.telemetry import SWITCHES

needs_a_watch = pytest.mark.skipif(not (namespace() or tracer()), reason="neither unshare --net nor strace works here")


def program(folder: Path, code: str, **environment: str) -> Watched:
    found = watched([sys.executable, "-c", code], folder, {"PYTHONPATH": os.pathsep.join(sys.path), **environment})
    assert found.code == 0, found.err
    return found


@needs_a_watch
@pytest.mark.parametrize(
    "attempt",
    [
        "socket.getaddrinfo('veriquant.invalid', 443)",
        "socket.create_connection(('192.0.2.1', 443), timeout=1)",
        "socket.create_connection(('2001:db8::1', 443), timeout=1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 443))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'who', ('127.0.0.53', 53))",
    ],
)
def test_an_attempt_to_reach_somebody_is_seen(tmp_path: Path, attempt: str) -> None:
    if not namespace() and "192.0.2.1" not in attempt and "127" not in attempt:
        pytest.skip("nothing stops what this sends from leaving the machine")
    code = f"import contextlib, socket\nwith contextlib.suppress(OSError):\n    {attempt}"
    assert program(tmp_path, code).reached
    in_a_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    assert program(tmp_path, in_a_child).reached


@needs_a_watch
def test_talking_to_this_machine_itself_is_nothing_to_tell(tmp_path: Path) -> None:
    code = (
        "import socket; there = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(there.getsockname()).sendall(b'hello')"
    )
    assert program(tmp_path, code).reached == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = 0', 1),
        ('connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("127.0.0.1")}, 16) = 0', 0),
        ('connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0', 1),
        ('connect(3, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0', 0),
        (
            'connect(3, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "::ffff:127.0.0.1", &a)}, 28) = 0',
            0,
        ),
        (
            'connect(3, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "::ffff:192.0.2.1", &a)}, 28) = 0',
            1,
        ),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file)', 0),
        ('bind(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("192.0.2.1")}, 16) = 0', 0),
    ],
)
def test_whom_a_trace_tells_of(line: str, told: int) -> None:
    assert len(contacts(f"77 {line}\n77 {line}\n")) == told


def test_a_file_left_in_the_users_folders_is_seen(tmp_path: Path) -> None:
    code = "import pathlib, tempfile; pathlib.Path.home().joinpath('x').touch(); tempfile.mkstemp(suffix='y')"
    first, second = program(tmp_path, code).left
    assert first == "home/x"
    assert second.startswith("tmp/")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_after_the_package_leaves_nothing(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    found = program(tmp_path, f"import veriquant, {runtime}")
    assert (found.reached, found.left) == ([], [])


def test_a_consent_that_a_user_gave_stands_and_is_not_used(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    consent = tmp_path / "home" / "intel" / "openvino_telemetry"
    consent.parent.mkdir(parents=True)
    consent.write_text("1")
    found = program(tmp_path, "import veriquant, openvino.tools.ovc")
    assert (found.reached, found.left) == ([], ["home/intel/openvino_telemetry"])
    assert consent.read_text() == "1"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_choice_in_the_environment_stands(tmp_path: Path, name: str) -> None:
    code = f"import os, veriquant; print(os.environ[{name!r}])"
    assert program(tmp_path, code, **{name: "0"}).out == "0\n"
    assert program(tmp_path, code).out == f"{SWITCHES[name]}\n"
    child = f"import subprocess, sys, veriquant; subprocess.run([sys.executable, '-c', {code!r}])"
    assert program(tmp_path, child).out == f"{SWITCHES[name]}\n"
