"""libcurl, which has no permessage-deflate: it is served plain by a server that compresses."""

import time

import pycurl

import traffic
from harness import PATIENCE
from traffic import LONG, SMALL, cases
from wire import Proxy


def receive(connection, until):
    """A whole message."""
    data = b""
    while time.monotonic() < until:
        try:
            part, meta = connection.ws_recv(1 << 16)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        data += part
        if meta.bytesleft == 0:
            return data
    raise TimeoutError("no message came")


def talk(address, sent):
    until = time.monotonic() + PATIENCE
    connection = pycurl.Curl()
    try:
        connection.setopt(pycurl.URL, f"ws://{address}/")
        connection.setopt(pycurl.CONNECT_ONLY, 2)
        connection.perform()
        for case in sent:
            flag = pycurl.WS_TEXT if case.is_text else pycurl.WS_BINARY
            for index, piece in enumerate(case.pieces):
                more = index + 1 < len(case.pieces)
                assert connection.ws_send(piece, flag | (pycurl.WS_CONT if more else 0)) == len(piece)
            assert receive(connection, until) == case.payload, f"another message came back: {case}"
        connection.ws_close(1000)
        receive(connection, until)
    finally:
        connection.close()


def run(checks, server, mode):
    with Proxy(server.address) as proxy, checks.check("libcurl: plain, as it offers nothing"):
        sent = cases(SMALL + LONG, True)
        talk(proxy.address, sent)
        connection = proxy.take()
        assert b"extensions" not in connection.sent.lower()
        traffic.check(connection, sent, False)
