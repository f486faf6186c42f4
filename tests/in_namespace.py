"""Run a command in this network namespace, which has nothing but a loopback device; write down what could not go out.

``unshare --net python in_namespace.py COUNTS.json COMMAND...``. The kernel counts packets without a route, and
datagrams, of which the package sends none: where a name server listens on the loopback address, a lookup is one.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
COUNTED = {"Ip": "OutNoRoutes", "Udp": "OutDatagrams"}
COUNTED_6 = ("Ip6OutNoRoutes", "Udp6OutDatagrams")


def loopback_up() -> None:
    """Switch the loopback device on, which is off in a new namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))


def counts() -> dict[str, int]:
    """Return the kernel's counters of this namespace that are not 0."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    found = {}
    for heads, values in zip(lines[::2], lines[1::2], strict=True):
        if (wanted := COUNTED.get(heads[0].rstrip(":"))) is not None:
            found[heads[0] + wanted] = int(values[heads.index(wanted)])
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        name, value = line.split()
        if name in COUNTED_6:
            found[name] = int(value)
    return {name: value for name, value in found.items() if value}


if __name__ == "__main__":
    loopback_up()
    code = subprocess.run(sys.argv[2:]).returncode
    Path(sys.argv[1]).write_text(json.dumps(counts()))
    sys.exit(code if code >= 0 else 128 - code)
