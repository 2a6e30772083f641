"""What runs beside a node whose disk is slow? A process that only flushes the files whose descriptors it is sent.

Run as a script of its own and importing nothing of this package: it starts in milliseconds and stays small. A request
is 8 bytes (its number) with the descriptors beside it; the answer is 12 bytes: the number, and an errno or 0. The end
of the socket is the end of the process, so that it never outlives its parent.
"""

import os
import signal
import socket
import struct
import sys

DESCRIPTORS_MAX = 64

REQUEST = struct.Struct("<Q")
ANSWER = struct.Struct("<QI")


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end closes."""
    while True:
        try:
            request, descriptors, _, _ = socket.recv_fds(channel, REQUEST.size, DESCRIPTORS_MAX)
            if len(request) < REQUEST.size:
                return
            channel.sendall(ANSWER.pack(REQUEST.unpack(request)[0], _flush(descriptors)))
        except ConnectionError:  # the node was killed with a flush under way
            return


def _flush(descriptors: list[int]) -> int:
    """Flush them all and close them; the first errno, or 0."""
    error_number = 0
    for descriptor in descriptors:
        try:
            if not error_number:
                flush_one(descriptor)
        except OSError as error:
            error_number = error.errno or 5  # EIO
        finally:
            os.close(descriptor)
    return error_number


if sys.platform == "darwin":
    import fcntl

    def flush_one(descriptor: int) -> None:
        """Make durable all that was written to the file."""
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

else:

    def flush_one(descriptor: int) -> None:
        """Make durable all that was written to the file."""
        os.fdatasync(descriptor)


def ignore_signals() -> None:
    """A Ctrl-C or a stop meant for the node must not take away the flush that it still waits for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    ignore_signals()
    serve(socket.socket(fileno=int(sys.argv[1])))
