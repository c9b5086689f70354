"""Those that are connected: publishers, listeners, slow readers, and many that come and go in every way."""

import asyncio
import collections
import contextlib
import random
import struct
import time

from client import BINARY, CLOSE, PING, PONG, TEXT, Client, frame, header

PUBLISHERS, LISTENERS, CHURNERS = 3, 8, 40
# They read far less than is published.
SLOW_READERS = 4
# A publisher sends so many messages a second of up to so many bytes, and now and then a long one.
MESSAGES_PER_SECOND, SHORT_BYTES_MAX = 50, 2000
LONG_EVERY, LONG_BYTES_MAX = 200, 600_000
SLOW_BYTES_PER_SECOND = 150_000
# Those that read nothing, and how many seconds they stay: some go by themselves, and some stay until the server
# gives them up, which takes its ping_interval and its pong_timeout.
NEVER_READERS = [(5, 15), (3, 45)]
PATIENCE = 20
# What a publisher's message begins with: a mark, who sent it, and its number.
MARK = struct.Struct("!4sII")


class Swarm:
    def __init__(self, port):
        self.port = port
        self.stopping = asyncio.Event()
        self.published = [0] * PUBLISHERS
        self.received = [[0] * PUBLISHERS for _ in range(LISTENERS)]
        self.done = collections.Counter()
        self.failures = []

    async def run(self, seconds):
        """All of it for so long; then the publishers stop, and those that listen get the rest."""
        listeners = [await Client(self.port).open() for _ in range(LISTENERS)]
        listening = [asyncio.create_task(self.listen(*one)) for one in enumerate(listeners)]
        publishing = [self.publish(number) for number in range(PUBLISHERS)]
        others = [self.churn() for _ in range(CHURNERS)]
        others += [self.read_slowly() for _ in range(SLOW_READERS)]
        for count, stay in NEVER_READERS:
            others += [self.never_read(stay * (number + 1) / count, stay) for number in range(count)]
        asyncio.get_running_loop().call_later(seconds, self.stopping.set)
        await asyncio.gather(*publishing, *others)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any(one != self.published for one in self.received):
                    await asyncio.sleep(0.1)
        for task, client in zip(listening, listeners):
            task.cancel()
            client.close()
        for result in await asyncio.gather(*listening, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                self.fail("a listener", result)

    def fail(self, what, error):
        if len(self.failures) < 20:
            self.failures.append(f"{what}: {type(error).__name__}: {error}")

    async def pause(self, seconds):
        """Waits, or until all is to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def listen(self, number, client):
        received = self.received[number]
        async for opcode, payload in client.frames():
            if opcode == BINARY and payload.startswith(b"soak"):
                _, publisher, sequence = MARK.unpack_from(payload)
                assert sequence == received[publisher] + 1, (publisher, sequence, received)
                received[publisher] = sequence

    async def publish(self, number):
        client = await Client(self.port).open()
        reading = asyncio.create_task(client.until(CLOSE))
        start = time.monotonic()
        while not self.stopping.is_set():
            sequence = self.published[number] + 1
            is_long = sequence % LONG_EVERY == 0
            length = random.randint(0, LONG_BYTES_MAX if is_long else SHORT_BYTES_MAX)
            await client.write(frame(BINARY, MARK.pack(b"soak", number, sequence) + bytes(length)))
            self.published[number] = sequence
            due = start + sequence / MESSAGES_PER_SECOND
            await self.pause(max(0, due - time.monotonic()))
        # What it sent last is to be published before it goes.
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await closes(client)
        client.close()

    async def read_slowly(self):
        client = await Client(self.port, receive_buffer=16_384).open()
        while not self.stopping.is_set():
            await client.read_more(SLOW_BYTES_PER_SECOND // 10)
            client.received.clear()
            self.done["slow reads"] += 1
            await self.pause(0.1)
        client.reset()

    async def never_read(self, seconds, stay):
        # They stay less the first time, so that they do not come all at once, and together take the same memory
        # at all times.
        while not self.stopping.is_set():
            client = await Client(self.port, receive_buffer=4096).open()
            await self.pause(seconds)
            seconds = stay
            self.done["never readers"] += 1
            client.reset()

    async def churn(self):
        while not self.stopping.is_set():
            way = random.choice(WAYS)
            client = Client(self.port)
            try:
                async with asyncio.timeout(PATIENCE):
                    await way(client)
                self.done[way.__name__] += 1
            except (AssertionError, EOFError, OSError, TimeoutError) as error:
                self.fail(way.__name__, error)
            client.close()
            await self.pause(random.uniform(0, 0.4))


async def closes(client):
    await client.write(frame(CLOSE, b"\x03\xe8bye"))
    assert await client.until(CLOSE) == b"\x03\xe8"
    assert await client.read_to_end() == b"", "nothing comes behind a close frame"


async def opens_and_closes(client):
    await client.open()
    await closes(client)


async def finishes_without_a_close(client):
    await client.open()
    client.socket.shutdown(1)
    await client.read_to_end()


async def resets(client):
    await client.open()
    client.reset()


async def stays_a_while_and_leaves_unread(client):
    await client.open()
    await asyncio.sleep(random.uniform(0, 1))


async def says_nothing(client):
    await client.connect()
    await asyncio.sleep(random.uniform(0, 0.5))


async def stops_within_its_head(client):
    await client.connect()
    await client.write(b"GET / HTTP/1.1\r\nHost: local")
    await asyncio.sleep(random.uniform(0, 0.5))
    random.choice([client.reset, client.close])()


async def asks_wrongly(client):
    await client.connect()
    await client.write(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.read_to_end()).startswith(b"HTTP/1.1 400 ")


async def asks_for_a_page(client):
    await client.connect()
    await client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.read_head()).startswith(b"HTTP/1.1 426 ")


async def is_refused(client, data, code):
    await client.open()
    await client.write(data)
    payload = await client.until(CLOSE)
    assert payload[:2] == code.to_bytes(2, "big"), payload
    client.socket.shutdown(1)
    assert await client.read_to_end() == b""


async def does_not_mask(client):
    await is_refused(client, b"\x81\x01x", 1002)


async def sends_no_utf8(client):
    await is_refused(client, frame(TEXT, b"\xff"), 1007)


async def announces_too_much(client):
    await is_refused(client, header(BINARY, 2 << 20), 1009)


async def resets_within_a_long_message(client):
    await client.open()
    await client.write(header(BINARY, 500_000) + bytes(random.randint(0, 400_000)))
    client.reset()


async def sends_fragments(client):
    await client.open()
    mark = random.randbytes(8)
    await client.write(frame(BINARY, mark, False))
    for _ in range(20):
        await client.write(frame(0, b"fragment", False))
    await client.write(frame(0))
    assert await client.until(BINARY, mark) == mark + b"fragment" * 20
    await closes(client)


async def pings(client):
    await client.open()
    await client.write(b"".join(frame(PING, bytes([number])) for number in range(50)))
    await client.until(PONG, b"\x31")
    client.reset()


WAYS = [
    opens_and_closes,
    finishes_without_a_close,
    resets,
    stays_a_while_and_leaves_unread,
    says_nothing,
    stops_within_its_head,
    asks_wrongly,
    asks_for_a_page,
    does_not_mask,
    sends_no_utf8,
    announces_too_much,
    resets_within_a_long_message,
    sends_fragments,
    pings,
]
