"""Thousands of WebSocket clients in one thread: idle ones, ones that talk, and ones that read late."""

import errno
import fcntl
import random
import selectors
import socket
import struct
import termios
import time

HEAD = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE = 30
# Connections that are on their way at once.
OPENING_MAX = 256
# An address has ports for 28,000 connections.
ADDRESSES = [f"127.0.0.{last}" for last in range(2, 10)]
# What a late reader is sent: more than the kernel keeps for it, and less than stops the server from
# reading what it echoes.
LATE_MESSAGES, LATE_BYTES = 50, 50_000
# What a late reader takes at once, and how often.
TAKEN_BYTES, TAKEN_INTERVAL = 100_000, 0.02
TALK_INTERVAL = 0.1
# See ip(7): the port is chosen by connect, for both ends together.
IP_BIND_ADDRESS_NO_PORT = 24


def frame(opcode, payload=b""):
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def late_payload(client, number):
    return struct.pack(">II", client, number) * (LATE_BYTES // 8)


class Client:
    """A connection that is idle. `closed_at` is when its close frame came, with `code`."""

    kind = "idle"

    def __init__(self, number):
        self.number = number
        self.socket = None
        self.received = bytearray()
        self.is_open = False
        self.closed_at = None
        self.code = None
        self.reads_at = 0.0
        self.ended = None

    def connect(self, port):
        self.socket = socket.socket()
        self.prepare()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((ADDRESSES[self.number % len(ADDRESSES)], 0))
        error = self.socket.connect_ex(("127.0.0.1", port))
        assert error in (0, errno.EINPROGRESS), errno.errorcode[error]

    def prepare(self):
        """Before it connects."""

    def send(self, opcode, payload=b""):
        data = frame(opcode, payload)
        sent = self.socket.send(data)
        assert sent == len(data), "a few bytes found no room"

    def receive(self, now, bytes_max=65536):
        """Reads once, and handles what came; at the end `ended` says how it was."""
        try:
            data = self.socket.recv(bytes_max)
        except BlockingIOError:
            return
        except ConnectionError as error:
            self.ended = type(error).__name__
            return
        if not data:
            self.ended = "FIN"
            return
        self.received += data
        if not self.is_open:
            head, separator, rest = self.received.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.is_open, self.received = True, rest
        while (found := self.next_frame()) is not None:
            self.handle(now, *found)

    def next_frame(self):
        if len(self.received) < 2:
            return None
        start, size = 2, self.received[1]
        assert size < 127, "a frame that nobody sent"
        if size == 126:
            if len(self.received) < 4:
                return None
            start, size = 4, int.from_bytes(self.received[2:4], "big")
        if len(self.received) < start + size:
            return None
        found = self.received[0] & 0xF, bytes(self.received[start : start + size])
        del self.received[: start + size]
        return found

    def handle(self, now, opcode, payload):
        assert self.closed_at is None, "something came behind the close frame"
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self.closed_at, self.code = now, int.from_bytes(payload[:2], "big")
            try:
                self.send(CLOSE, payload[:2])
            except ConnectionError:
                # The server was ended meanwhile.
                pass
        else:
            self.handle_message(payload)

    def handle_message(self, payload):
        raise AssertionError("a message that nobody asked for")

    def lost(self):
        """How many messages did not come that had to."""
        return 0


class Talker(Client):
    """Sends a number, and the next one when that is back."""

    kind = "talking"

    def __init__(self, number):
        super().__init__(number)
        self.sent = self.echoed = 0
        self.talks_at = 0.0

    def talk(self, now):
        if self.is_open and self.closed_at is None and self.sent == self.echoed and now >= self.talks_at:
            try:
                self.send(TEXT, str(self.sent).encode())
            except ConnectionError:
                return
            self.sent += 1
            self.talks_at = now + TALK_INTERVAL

    def handle_message(self, payload):
        assert payload == str(self.echoed).encode(), (payload, self.echoed)
        self.echoed += 1

    def lost(self):
        # What it sent while the close frame was on its way is not echoed.
        return max(0, self.sent - self.echoed - 1)


class LateReader(Client):
    """Has much sent to it, and reads none of it for a while; then slowly."""

    kind = "late"

    def __init__(self, number):
        super().__init__(number)
        self.echoed = 0

    def prepare(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

    def ask(self):
        """Has the messages sent to it. They are the server's when this returns."""
        self.socket.settimeout(PATIENCE)
        for number in range(LATE_MESSAGES):
            self.socket.sendall(frame(BINARY, late_payload(self.number, number)))
        deadline = time.monotonic() + PATIENCE
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < deadline, "the server does not read"
            time.sleep(0.001)
        self.socket.setblocking(False)

    def handle_message(self, payload):
        assert payload == late_payload(self.number, self.echoed), f"not the message {self.echoed}"
        self.echoed += 1

    def lost(self):
        return LATE_MESSAGES - self.echoed


class Crowd:
    """Connections to one server, each of its kind, all of them open."""

    def __init__(self, port, count):
        self.selector = selectors.EpollSelector()
        special = max(10, count // 200)
        kinds = [LateReader] * special + [Talker] * special + [Client] * (count - 2 * special)
        # Of all kinds some are on each worker, and early and late in its slots.
        random.shuffle(kinds)
        self.clients = [kind(number) for number, kind in enumerate(kinds)]
        self.talkers = [client for client in self.clients if isinstance(client, Talker)]
        self.late = [client for client in self.clients if isinstance(client, LateReader)]
        self._open(port)
        for client in self.late:
            self.selector.unregister(client.socket)
            client.ask()
        # What the kernel has taken the server takes as well.
        self.run(0.5)

    def _open(self, port):
        todo, opening = list(reversed(self.clients)), set()
        deadline = time.monotonic() + PATIENCE + len(todo) / 500
        while todo or opening:
            assert time.monotonic() < deadline, f"{len(todo) + len(opening)} did not open"
            while todo and len(opening) < OPENING_MAX:
                client = todo.pop()
                client.connect(port)
                self.selector.register(client.socket, selectors.EVENT_WRITE, client)
                opening.add(client)
            for key, events in self.selector.select(1):
                client = key.data
                if events & selectors.EVENT_WRITE:
                    client.socket.send(HEAD)
                    self.selector.modify(client.socket, selectors.EVENT_READ, client)
                else:
                    client.receive(time.monotonic())
                    assert client.ended is None, f"{client.ended} before it was open"
                if client.is_open:
                    opening.discard(client)

    def run(self, seconds, is_done=lambda: False):
        """Lives for so long, or until it is done."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline and not is_done():
            for talker in self.talkers:
                talker.talk(now)
            for client in self.late:
                if client.ended is None and client.reads_at <= now and client.reads_at > 0:
                    client.receive(now, TAKEN_BYTES)
                    client.reads_at = now + TAKEN_INTERVAL
            for key, _ in self.selector.select(TAKEN_INTERVAL / 4):
                key.data.receive(time.monotonic())
                if key.data.ended is not None:
                    self.selector.unregister(key.fileobj)

    def read_late(self, start, seconds):
        """From `start` on, over so many seconds, one late reader after the other begins to read."""
        for number, client in enumerate(self.late):
            client.reads_at = start + seconds * (number + 1) / len(self.late)

    def left(self):
        return sum(client.ended is None for client in self.clients)

    def close(self):
        for client in self.clients:
            if client.socket is not None:
                client.socket.close()
        self.selector.close()
