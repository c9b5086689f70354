"""What is axum's own in the axum example: its pages beside the WebSockets, and the way from hyper to Quelea."""

import signal
import socket
import threading

from curl_client import curl
from harness import PATIENCE, Server, server
from syscalls import ECHO, HANDSHAKE, MESSAGE, connect, read_until


def raw(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def pages_are_axums_own(address):
    for path, options, status, text in [
        ("/", [], 200, "Connect here with ws://, and every message comes back.\n"),
        ("/health", [], 200, "ok\n"),
        ("/missing", [], 404, ""),
        ("/", ["-d", "x"], 405, ""),
    ]:
        got, _, body = curl(f"http://{address}{path}", {}, *options)
        assert (got, body) == (status, text), (path, got, body)


def a_connection_asks_for_pages_and_then_for_a_websocket(address):
    connection = raw(address)
    for _ in range(3):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        read_until(connection, lambda data: data.endswith(b"\r\n\r\nok\n"))
    connection.sendall(HANDSHAKE)
    read_until(connection, lambda data: data.endswith(b"\r\n\r\n"))
    connection.sendall(MESSAGE)
    assert read_until(connection, lambda data: len(data) == len(ECHO)) == ECHO


def frames_behind_the_request_are_not_lost(address):
    """hyper has read them with the request, the more of them the fewer cuts there are."""
    frames = MESSAGE * 3
    for cut in range(len(frames) + 1):
        connection = raw(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HANDSHAKE + frames[:cut])
        connection.sendall(frames[cut:])
        data = read_until(connection, lambda data: data.endswith(ECHO * 3))
        assert data.startswith(b"HTTP/1.1 101 ") and data.count(ECHO) == 3, data
        connection.close()


def a_request_and_1_mib_of_frames_in_one_go(address):
    count = 40_000
    connection = raw(address)
    writer = threading.Thread(target=connection.sendall, args=[HANDSHAKE + MESSAGE * count])
    writer.start()
    read_until(connection, lambda data: data.endswith(b"\r\n\r\n"), 1)
    expected = ECHO * count
    assert read_until(connection, lambda data: len(data) >= len(expected)) == expected
    writer.join()


def ctrl_c_ends_both():
    running = Server("axum")
    try:
        both_are_ended_by_ctrl_c(running)
    finally:
        running.stop()


def both_are_ended_by_ctrl_c(running):
    websocket, idle = connect(running.address), raw(running.address)
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    read_until(idle, lambda data: data.endswith(b"ok\n"))
    websocket.sendall(MESSAGE)
    assert read_until(websocket, lambda data: len(data) == len(ECHO)) == ECHO
    running.process.send_signal(signal.SIGINT)
    close = read_until(websocket, lambda data: len(data) > 3)
    assert (close[0], close[2:4]) == (0x88, b"\x03\xe9"), close
    # The answer: 1001, masked with 0.
    websocket.sendall(b"\x88\x82\0\0\0\0\x03\xe9")
    assert websocket.recv(1) == b"", "the server closes"
    assert idle.recv(1) == b"", "axum ends what is idle"
    assert running.process.wait(PATIENCE) == 0


def half_a_request_does_not_keep_it_from_its_end():
    for which in [signal.SIGINT, signal.SIGTERM]:
        running = Server("axum")
        try:
            half = raw(running.address)
            half.sendall(b"GET /health HTTP/1.1\r\nHost")
            # What came before another connection's answer has been read.
            curl(f"http://{running.address}/health", {})
            running.process.send_signal(which)
            assert running.process.wait(PATIENCE) == 0, which
            half.close()
        finally:
            running.stop()


def run(checks):
    with server("axum") as axum:
        for check in [
            pages_are_axums_own,
            a_connection_asks_for_pages_and_then_for_a_websocket,
            frames_behind_the_request_are_not_lost,
            a_request_and_1_mib_of_frames_in_one_go,
        ]:
            with checks.check(f"axum: {check.__name__}"):
                check(axum.address)
    for check in [ctrl_c_ends_both, half_a_request_does_not_keep_it_from_its_end]:
        with checks.check(f"axum: {check.__name__}"):
            check()
