"""Python's `websockets` against echo."""

import asyncio
import tempfile

import websockets
from websockets.asyncio.client import connect, unix_connect

from harness import PATIENCE, server

MIB = 1024 * 1024


async def echo_comes_back(ws):
    for message in ["", "text", "gr\u00fc\u00dfe \U0001f426", b"", b"\x00\xff", "x" * MIB, b"y" * MIB]:
        await ws.send(message)
        assert await ws.recv() == message


async def fragments_are_one_message(ws):
    await ws.send(["one ", "mess", "age"])
    assert await ws.recv() == "one message"
    await ws.send([b"\x01", b"", b"\x02"])
    assert await ws.recv() == b"\x01\x02"


async def pings_are_answered(ws):
    for payload in [b"", b"x" * 125]:
        await (await ws.ping(payload))


async def subprotocols_that_echo_does_not_know_are_left_out(address):
    async with connect(f"ws://{address}/", subprotocols=["chat", "other"]) as ws:
        assert ws.subprotocol is None
        await ws.send("still")
        assert await ws.recv() == "still"


async def the_clients_close_is_answered(ws):
    await ws.close(4001, "enough")
    assert (ws.close_code, ws.protocol.close_rcvd.code) == (4001, 4001)


async def a_long_message_is_closed_with_1009(ws):
    await ws.send(b"z" * (MIB + 1))
    try:
        await ws.recv()
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == 1009, closed
        assert closed.rcvd.reason == "message too big", closed
    else:
        raise AssertionError("it was echoed")


async def a_hundred_connections_at_once(address):
    async def one(number):
        async with connect(f"ws://{address}/") as ws:
            for count in range(20):
                await ws.send(f"{number} {count}")
            for count in range(20):
                assert await ws.recv() == f"{number} {count}"

    await asyncio.gather(*(one(number) for number in range(100)))


CHECKS = [
    echo_comes_back,
    fragments_are_one_message,
    pings_are_answered,
    the_clients_close_is_answered,
    a_long_message_is_closed_with_1009,
]


def run(checks):
    async def each(check, context):
        async with asyncio.timeout(PATIENCE), context as ws:
            await check(ws)

    with server("echo") as echo:
        for check in CHECKS:
            with checks.check(f"Python websockets: {check.__name__}"):
                asyncio.run(each(check, connect(f"ws://{echo.address}/", max_size=None)))
        for check in [subprotocols_that_echo_does_not_know_are_left_out, a_hundred_connections_at_once]:
            with checks.check(f"Python websockets: {check.__name__}"):
                asyncio.run(asyncio.wait_for(check(echo.address), PATIENCE))
    with server("echo", listen="[::1]:0") as echo:
        with checks.check("Python websockets: echo over IPv6"):
            asyncio.run(each(echo_comes_back, connect(f"ws://{echo.address}/", max_size=None)))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo.sock"
        with server("echo", listen=f"unix:{path}"):
            with checks.check("Python websockets: echo over a Unix socket"):
                context = unix_connect(path, "ws://localhost/", max_size=None)
                asyncio.run(each(echo_comes_back, context))
