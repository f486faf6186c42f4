"""Running a command and telling whom it tried to reach and what it left in its user's folders.

Two means, both used where a machine permits them. In a network namespace of its own, nothing can leave, and the kernel
counts what tried. Under strace every address is seen, a lookup of a name included. Where a name service daemon answers
lookups through a socket in the file system, the second sees none of them; such sockets cannot be reached from outside.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from veriquant.telemetry import SWITCHES

INSIDE = Path(__file__).with_name("in_namespace.py")
LOOKUPS = {53, 853, 5353}
_CONTACT = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*?sa_family=AF_INET6?.*")
_ADDRESS = re.compile(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
_PORT = re.compile(r"htons\((\d+)\)")


@dataclass(frozen=True)
class Watched:
    """A command that has run."""

    code: int
    out: str
    err: str
    reached: list[str]
    """Whom it tried to reach beside this machine itself."""
    left: list[str]
    """The files in its user's home and temporary folder, as paths in these."""


def _works(*command: str) -> bool:
    try:
        return subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@cache
def namespace() -> tuple[str, ...]:
    """Return how to start a command in a network namespace of its own; empty: this machine does not permit it."""
    ways = (("unshare", "--net"), ("unshare", "--net", "--map-root-user"))
    return next((way for way in ways if _works(*way, sys.executable, str(INSIDE), os.devnull)), ())


@cache
def tracer() -> tuple[str, ...]:
    """Return how to start a command under strace; empty: it is not installed, or not permitted."""
    plain = ("strace", "-f", "-qq", "-e", "trace=%network")
    ways = ((plain[0], "--seccomp-bpf", *plain[1:]), plain)
    return next((way for way in ways if _works(*way, "-o", os.devnull)), ())


def watched(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
) -> Watched:
    """Run a command with ``folder/home`` and ``folder/tmp`` for the user's own; `cwd`: its current folder."""
    home, temporary, trace, counts = (folder / name for name in ("home", "tmp", "trace", "counts.json"))
    for each in (home, temporary):
        each.mkdir(parents=True, exist_ok=True)
    private = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "VERIQUANT_CACHE"}
    inherited = {name: value for name, value in os.environ.items() if name not in private | set(SWITCHES)}
    whole = [str(part) for part in command]
    if tracer():
        whole = [*tracer(), "-o", str(trace), *whole]
    if namespace():
        whole = [*namespace(), sys.executable, str(INSIDE), str(counts), *whole]
    places = {"HOME": str(home), "TMPDIR": str(temporary)}
    env = {**inherited, **places, **(environment or {})}
    done = subprocess.run(whole, capture_output=True, text=True, timeout=600, env=env, cwd=cwd)
    reached = contacts(trace.read_text(errors="replace")) if trace.exists() else []
    if counts.exists():
        reached += [f"{name}: {value} packets" for name, value in json.loads(counts.read_text()).items()]
    left = [str(file.relative_to(folder)) for place in (home, temporary) for file in place.rglob("*") if file.is_file()]
    return Watched(done.returncode, done.stdout, done.stderr, reached, sorted(left))


def contacts(trace: str) -> list[str]:
    """Return the addresses in a trace of strace's that are not this machine's, or that answer lookups of names."""
    found = []
    for line in trace.splitlines():
        if (contact := _CONTACT.search(line)) is None:
            continue
        for address in _ADDRESS.findall(contact[0]):
            port = int(match[1]) if (match := _PORT.search(contact[0])) else 0
            told = ipaddress.ip_address(address)
            told = getattr(told, "ipv4_mapped", None) or told
            if port in LOOKUPS or not (told.is_loopback or told.is_unspecified):
                found.append(f"{address} port {port}")
    return list(dict.fromkeys(found))
