"""A bare TCP echo between two processes: what this machine takes for two hops, now.

`python -m benchmarks.echo COUNT` starts the other end, sends COUNT messages of a picture's size at
a camera's pace and writes the round trips in microseconds as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
import time

PERIOD_S = 0.04
MESSAGE_BYTES = 3_000
"""A picture of 600 kbit/s at 25 a second."""


def serve(listener: socket.socket) -> None:
    """Send back what comes, until the other side closes."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def round_trips_us(count: int) -> list[float]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,))
    server.start()
    message = bytes(MESSAGE_BYTES)
    times = []
    with socket.create_connection(listener.getsockname()) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(message)
            left = MESSAGE_BYTES
            while left:
                left -= len(connection.recv(left))
            times.append((time.perf_counter() - began) * 1e6)
            time.sleep(PERIOD_S)
    server.join()
    return times


if __name__ == "__main__":
    json.dump(round_trips_us(int(sys.argv[1])), sys.stdout)
