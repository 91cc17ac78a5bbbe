"""The account of the process at the other end of a Unix socket.

Linux reports it with ``SO_PEERCRED`` (unix(7)), macOS and the BSDs with ``LOCAL_PEERCRED`` (unix(4)). For a client it
is the account that called listen(2), which no other process can pretend to be.

Without this check, a client would send a password to any process that listened under the expected name. See
``decisions/0046-only-the-owner-of-a-home-opens-it.md``.
"""

import socket
import struct
import sys

UCRED = struct.Struct("3i")  # process id, user id, group id
XUCRED_START = struct.Struct("=II")  # version, user id; the groups follow
XUCRED_BYTES = 76
SOL_LOCAL, LOCAL_PEERCRED = 0, 1


def user_id_of_peer(connection: socket.socket) -> int:
    """Return the user id of the peer of a connected Unix socket; raise ``OSError``."""
    if sys.platform.startswith("linux"):
        return int(UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))[1])
    return parse_xucred(connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, XUCRED_BYTES))


def parse_xucred(credentials: bytes) -> int:
    """Return the user id in the answer to ``LOCAL_PEERCRED``; raise ``OSError`` if the answer is too short."""
    if len(credentials) < XUCRED_START.size:
        raise OSError("the system does not report the account of the peer")
    return int(XUCRED_START.unpack_from(credentials)[1])
