"""A WebSocket client that does as it is told, on sockets without a library between."""

import asyncio
import random
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HEAD = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def header(opcode, length, final=True):
    """Of a frame that is masked with zeros."""
    first = opcode | (0x80 if final else 0)
    if length < 126:
        return struct.pack("!BBI", first, 0x80 | length, 0)
    if length < 65536:
        return struct.pack("!BBHI", first, 0xFE, length, 0)
    return struct.pack("!BBQI", first, 0xFF, length, 0)


def frame(opcode, payload=b"", final=True):
    return header(opcode, len(payload), final) + payload


class Client:
    def __init__(self, port, receive_buffer=None):
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.received = bytearray()

    async def connect(self):
        # Many addresses, as each has only so many ports, and they rest for a minute.
        self.socket.bind((f"127.0.0.{random.randint(2, 250)}", 0))
        await self.loop.sock_connect(self.socket, ("127.0.0.1", self.port))
        return self

    async def open(self):
        await self.connect()
        await self.write(HEAD)
        head = await self.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    async def write(self, data):
        await self.loop.sock_sendall(self.socket, data)

    async def read_more(self, most=1 << 18):
        data = await self.loop.sock_recv(self.socket, most)
        if not data:
            raise EOFError("the server ended the connection")
        self.received += data

    async def read_head(self):
        while (end := self.received.find(b"\r\n\r\n")) < 0:
            await self.read_more()
        head = bytes(self.received[:end])
        del self.received[: end + 4]
        return head

    async def frames(self):
        """All that come: opcode and payload. Pings are answered."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode == PING:
                await self.write(frame(PONG, payload))
            yield opcode, payload

    async def next_frame(self):
        start, length = await self._length()
        while len(self.received) < start + length:
            await self.read_more()
        opcode, payload = self.received[0] & 0xF, bytes(self.received[start : start + length])
        del self.received[: start + length]
        return opcode, payload

    async def _length(self):
        while True:
            data = self.received
            if len(data) >= 2:
                start = {126: 4, 127: 10}.get(data[1], 2)
                if len(data) >= start:
                    return start, data[1] if start == 2 else int.from_bytes(data[2:start], "big")
            await self.read_more()

    async def until(self, opcode, payload=b""):
        """Passes over what comes until this does; its payload."""
        async for found in self.frames():
            if found[0] == opcode and found[1].startswith(payload):
                return found[1]

    async def read_to_end(self):
        try:
            while True:
                await self.read_more()
        except (EOFError, ConnectionError):
            return bytes(self.received)

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
