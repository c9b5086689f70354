"""What passes between clients and a server: a proxy that keeps it, and the messages in it."""

import contextlib
import dataclasses
import re
import socket
import threading
import time
import zlib

PATIENCE = 20
TEXT, BINARY = 1, 2
RSV1 = 0x40
# What a flush ends with, and what is left out at the end of a message (RFC 7692, section 7.2.1).
TAIL = b"\x00\x00\xff\xff"


class Recorded:
    """One connection, as it passed."""

    def __init__(self, client, upstream):
        self.sent = bytearray()
        self.received = bytearray()
        self.sockets = [client, upstream]
        ways = [(client, upstream, self.sent), (upstream, client, self.received)]
        self.threads = [threading.Thread(target=self.pass_on, args=way, daemon=True) for way in ways]
        for thread in self.threads:
            thread.start()

    def pass_on(self, source, sink, record):
        try:
            while data := source.recv(1 << 18):
                record += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One of them is gone without a word: so the other one sees the same.
            for end in self.sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def finish(self):
        """Waits until both sides have ended."""
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection did not end"
        for end in self.sockets:
            end.close()


class Proxy:
    """Passes bytes on to a server; `connections` are all that were made, in order."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.server = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = []
        self.thread = threading.Thread(target=self.accept, daemon=True)

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                upstream = socket.create_connection(self.server)
                for end in (client, upstream):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(Recorded(client, upstream))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE)

    def take(self):
        """The last connection that was made since it was called before, once it has ended."""
        until = time.monotonic() + PATIENCE
        while not self.connections and time.monotonic() < until:
            time.sleep(0.01)
        assert self.connections, "nobody came"
        connection = self.connections[-1]
        self.connections.clear()
        connection.finish()
        return connection


@dataclasses.dataclass
class Message:
    """A message as it was on the wire."""

    opcode: int
    is_compressed: bool
    frames: list
    wire_bytes: int = 0

    @property
    def payload(self):
        return b"".join(self.frames)


def unmasked(key, payload):
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


def messages(record, is_masked):
    """The head, and the messages behind it; all that a frame must be is asserted (RFC 6455, 5; RFC 7692, 6)."""
    head, found, rest = bytes(record).partition(b"\r\n\r\n")
    assert found, f"no head: {head[:200]}"
    whole, open_message, at = [], None, 0
    while at < len(rest):
        first, second = rest[at], rest[at + 1]
        start, at = at, at + 2
        size = second & 0x7F
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(rest[at : at + width], "big")
            assert size > (125 if width == 2 else 0xFFFF), "a length that could be shorter"
            at += width
        assert bool(second & 0x80) == is_masked, "masked the wrong way"
        key = rest[at : at + 4] if is_masked else bytes(4)
        at += 4 if is_masked else 0
        payload = rest[at : at + size]
        assert len(payload) == size, "a frame is cut off"
        at += size
        opcode = first & 0x0F
        assert not first & 0x30, f"RSV2 or RSV3 in {first:#x}"
        if opcode >= 8:
            assert not first & RSV1, f"RSV1 on a control frame: {first:#x}"
            assert first & 0x80 and size <= 125, "a control frame that is too long, or in fragments"
            continue
        if opcode == 0:
            assert open_message, "a continuation of nothing"
            assert not first & RSV1, "RSV1 on a continuation"
        else:
            assert not open_message and opcode in (TEXT, BINARY), f"{first:#x} in a message"
            open_message = Message(opcode, bool(first & RSV1), [])
        open_message.frames.append(unmasked(key, payload) if is_masked else payload)
        open_message.wire_bytes += at - start
        if first & 0x80:
            whole.append(open_message)
            open_message = None
    assert open_message is None, "a message has no end"
    return head.decode(), whole


@dataclasses.dataclass
class Agreed:
    """What an answer agrees on, by its names in the RFC."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


def agreement(head):
    """What the head of an answer agrees on; None for nothing."""
    lines = re.findall(r"(?im)^sec-websocket-extensions: *(.*?)\r?$", head)
    if not lines:
        return None
    assert len(lines) == 1, lines
    name, *parameters = [part.strip() for part in lines[0].split(";")]
    assert name == "permessage-deflate", lines
    agreed = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        assert key not in agreed, f"{key} stands twice"
        agreed[key] = int(value) if value else True
    return Agreed(**agreed)


class Inflater:
    """Python's zlib as the receiver of one direction: it has only the window that was agreed on."""

    # What it makes at once: it has that beside its window.
    STEP = 1 << 8

    def __init__(self, bits, takeover):
        self.bits, self.takeover = bits, takeover
        self.stream = None

    def message(self, message):
        if not message.is_compressed:
            return message.payload
        if self.stream is None or not self.takeover:
            self.stream = zlib.decompressobj(wbits=-self.bits)
        step = self.STEP if self.bits < 15 else 1 << 20
        rest, pieces = message.payload + TAIL, []
        while True:
            pieces.append(self.stream.decompress(rest, step))
            rest = self.stream.unconsumed_tail
            if not rest and len(pieces[-1]) < step:
                break
        assert not self.stream.eof and not self.stream.unused_data, "a block that says that it is the last"
        return b"".join(pieces)
