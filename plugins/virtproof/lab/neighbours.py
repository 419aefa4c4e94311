"""Who answers for an IPv4 address on the lab's bridge: asked by ARP, as two hosts of one address both do.

Run inside the lab as ``python -I neighbours.py BRIDGE SENDER ADDRESS``; prints one MAC a line. Standard
library only.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

ETH_P_ARP = 0x0806
REQUEST, REPLY = 1, 2
ASKED, EVERY_S = 4, 0.4


def answering(bridge: str, sender: str, address: str) -> set[str]:
    """MACs that say that they have ``address``. OSError where the bridge is not there."""
    wanted = socket.inet_aton(address)
    found = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as raw:
        raw.bind((bridge, ETH_P_ARP))
        mac = raw.getsockname()[4]
        head = b"\xff" * 6 + mac + struct.pack("!H", ETH_P_ARP)
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, REQUEST) + mac + socket.inet_aton(sender)
        for _ in range(ASKED):
            raw.send(head + body + bytes(6) + wanted)
            end = time.monotonic() + EVERY_S
            while (left := end - time.monotonic()) > 0:
                raw.settimeout(left)
                try:
                    frame = raw.recv(2048)
                except TimeoutError:
                    break
                if frame[20:22] == struct.pack("!H", REPLY) and frame[28:32] == wanted:
                    found.add(frame[22:28].hex(":"))
    return found


if __name__ == "__main__":
    print("\n".join(sorted(answering(*sys.argv[1:4]))))
