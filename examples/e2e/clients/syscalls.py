"""Counts the system calls of echo a message, by strace."""

import re
import socket
import tempfile
import time

import harness
from harness import PATIENCE, server

CONNECTIONS = 50
ROUNDS = 40
PIPELINED = 16
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A masked text of 20 bytes, with the key 0, and its echo.
MESSAGE = b"\x81\x94\0\0\0\0" + b"m" * 20
ECHO = b"\x81\x14" + b"m" * 20

RECEIVES = ("read", "recvfrom", "recvmsg", "readv")
SENDS = ("write", "sendto", "sendmsg", "writev")
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "io_uring_enter")


def connect(address):
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HANDSHAKE)
    read_until(connection, lambda data: data.endswith(b"\r\n\r\n"))
    return connection


def read_until(connection, is_done, most=65536):
    """Reads until it is done, at most so many bytes at once."""
    data = b""
    while not is_done(data):
        chunk = connection.recv(most)
        assert chunk, "the server closed"
        data += chunk
    return data


def count(work):
    """The system calls of echo while `work` runs with its address."""
    with tempfile.NamedTemporaryFile() as trace:
        # -D: the process that was started is echo itself, to be ended by its own id.
        wrapper = ["strace", "-D", "-f", "-qq", "-o", trace.name]
        with server(harness.ECHO, wrapper=wrapper) as echo:
            run = work(echo.address)
            next(run)
            before = len(open(trace.name).readlines())
            next(run)
            time.sleep(0.2)
            lines = open(trace.name).readlines()[before:]
    calls = [found[1] for line in lines if (found := re.match(r"\d+\s+(\w+)\(", line))]
    return {
        "receives": sum(call in RECEIVES for call in calls),
        "sends": sum(call in SENDS for call in calls),
        "waits": sum(call in WAITS for call in calls),
        "all": len(calls),
    }


def one_in_flight(address):
    connections = [connect(address) for _ in range(CONNECTIONS)]
    time.sleep(0.5)
    yield
    for _ in range(ROUNDS):
        for connection in connections:
            connection.sendall(MESSAGE)
        for connection in connections:
            assert read_until(connection, lambda data: len(data) == len(ECHO)) == ECHO
    yield


def pipelined(address):
    connection = connect(address)
    time.sleep(0.5)
    yield
    for _ in range(ROUNDS):
        connection.sendall(MESSAGE * PIPELINED)
        expected = ECHO * PIPELINED
        assert read_until(connection, lambda data: len(data) == len(expected)) == expected
    yield


def run_on_a_ring(checks):
    for name, messages, work in [
        ("one message in flight on 50 connections", CONNECTIONS * ROUNDS, one_in_flight),
        ("16 messages pipelined on one connection", ROUNDS * PIPELINED, pipelined),
    ]:
        with checks.check(f"strace: {name}"):
            calls = count(work)
            print(f"        {messages} messages: {calls}")
            assert calls["receives"] == 0 and calls["sends"] == 0, calls
            assert 0 < calls["waits"] <= messages, calls
            assert calls["all"] - calls["waits"] < messages / 100, calls


def run(checks):
    if harness.DRIVER == "uring":
        return run_on_a_ring(checks)
    with checks.check("strace: one message in flight on 50 connections"):
        messages = CONNECTIONS * ROUNDS
        calls = count(one_in_flight)
        print(f"        {messages} messages: {calls}")
        assert messages * 0.9 < calls["receives"] <= messages, calls
        assert messages * 0.9 < calls["sends"] <= messages, calls
        assert calls["waits"] < messages, calls
        # Memory given back now and then is no call a message.
        others = calls["all"] - calls["receives"] - calls["sends"] - calls["waits"]
        assert others < messages / 100, calls
    with checks.check("strace: 16 messages pipelined on one connection"):
        calls = count(pipelined)
        print(f"        {ROUNDS * PIPELINED} messages: {calls}")
        assert ROUNDS * 0.9 < calls["sends"] <= calls["receives"], calls
