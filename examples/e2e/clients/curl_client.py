"""curl against echo and chat: what HTTP alone can see."""

import subprocess
import time

import pycurl

import harness
from harness import PATIENCE, server

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def curl(url, headers=(), *options):
    """The status and the head's fields, names in lower case, of one request."""
    fields = [part for name, value in dict(headers).items() for part in ("-H", f"{name}: {value}")]
    # An accepted upgrade stays open: curl ends it by its own deadline.
    command = ["curl", "-sS", "-i", "--http1.1", "--max-time", "1", *options, *fields, url]
    output = subprocess.run(command, capture_output=True, timeout=10).stdout.decode()
    head, _, body = output.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


def receive(connection):
    """One whole frame: its bytes and libcurl's flags."""
    deadline = time.monotonic() + PATIENCE
    data = b""
    while time.monotonic() < deadline:
        try:
            part, meta = connection.ws_recv(65536)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        data += part
        if meta.bytesleft == 0:
            return data, meta.flags
    raise TimeoutError("no frame came")


def echo_by_libcurl(address):
    """libcurl speaks ws:// by itself; Debian's may lack it, the one that pycurl brings does not."""
    connection = pycurl.Curl()
    try:
        connection.setopt(pycurl.URL, f"ws://{address}/")
        connection.setopt(pycurl.CONNECT_ONLY, 2)
        connection.setopt(pycurl.TIMEOUT, PATIENCE)
        connection.perform()
        for message, flag in [
            (b"text", pycurl.WS_TEXT), (b"\x00\xff", pycurl.WS_BINARY), (b"z" * 40000, pycurl.WS_BINARY),
        ]:
            assert connection.ws_send(message, flag) == len(message)
            assert receive(connection) == (message, flag)
        connection.ws_close(4001, "enough")
        data, flags = receive(connection)
        assert (data[:2], flags) == ((4001).to_bytes(2, "big"), pycurl.WS_CLOSE), (data, flags)
    finally:
        connection.close()


def run(checks):
    with server(harness.ECHO) as echo:
        with checks.check("curl: echo and close over ws://"):
            echo_by_libcurl(echo.address)
        url = f"http://{echo.address}/"
        with checks.check("curl: a handshake is accepted with the right key"):
            status, fields, _ = curl(url, UPGRADE)
            assert (status, fields["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        refused(checks, url, [
            (
                "version 8 is told of version 13",
                UPGRADE | {"Sec-WebSocket-Version": "8"}, [], 426, ("sec-websocket-version", "13"),
            ),
            ("another origin is refused", UPGRADE | {"Origin": "http://evil.example"}, [], 403, None),
            ("a bad key is refused", UPGRADE | {"Sec-WebSocket-Key": "short"}, [], 400, None),
        ])
        if harness.ECHO == "echo":
            refused(checks, url, [
                ("a plain GET is told to upgrade", {}, [], 426, ("upgrade", "websocket")),
                ("a POST is told of GET", {}, ["-d", "x"], 405, ("allow", "GET, HEAD")),
                ("a head of 20 KB is too long", {"X": "y" * 20000}, [], 431, ("connection", "close")),
            ])
    if harness.ECHO == "echo":
        options_of_echo(checks)
        pages_of_chat(checks)


def refused(checks, url, cases):
    for name, headers, options, status, field in cases:
        with checks.check(f"curl: {name}"):
            got, fields, _ = curl(url, headers, *options)
            assert got == status, got
            assert field is None or fields[field[0]] == field[1], fields


def options_of_echo(checks):
    with server("echo", "--origin", "any") as echo:
        with checks.check("curl: another origin is let in when any may come"):
            status, _, _ = curl(f"http://{echo.address}/", UPGRADE | {"Origin": "http://evil.example"})
            assert status == 101, status


def pages_of_chat(checks):
    with server("chat") as chat:
        for path, status, content_type in [
            ("/", 200, "text/html; charset=utf-8"),
            ("/chat.js", 200, "text/javascript; charset=utf-8"),
            ("/chat.css", 200, "text/css; charset=utf-8"),
            ("/icon.svg", 200, "image/svg+xml"),
            ("/missing", 404, "text/plain; charset=utf-8"),
        ]:
            with checks.check(f"curl: chat answers {path} with {status}"):
                got, fields, body = curl(f"http://{chat.address}{path}")
                assert (got, fields["content-type"]) == (status, content_type), fields
                assert len(body.encode()) == int(fields["content-length"])
