"""Python's `websockets` against echo."""

import asyncio
import contextlib
import tempfile

import websockets
from websockets.asyncio.client import connect, unix_connect

import harness
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


async def a_close_is_answered_with_its_code(address):
    for code in [1000, 1001, 1011, 3000, 4999]:
        async with connect(f"ws://{address}/") as ws:
            await ws.close(code, "enough")
            assert ws.protocol.close_rcvd.code == code, ws.protocol.close_rcvd


async def is_closed_by_the_server(ws, code):
    try:
        await ws.recv()
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd and closed.rcvd.code == code, closed
        assert closed.rcvd_then_sent, closed
        return closed.rcvd.reason
    raise AssertionError("it was echoed")


async def a_long_message_is_closed_with_1009(ws):
    await ws.send(b"z" * (MIB + 1))
    assert await is_closed_by_the_server(ws, 1009) == "message too big"


async def a_message_that_grows_too_long_is_closed_with_1009(ws):
    with contextlib.suppress(websockets.ConnectionClosed):
        await ws.send([b"z" * MIB, b"z"])
    await is_closed_by_the_server(ws, 1009)


async def text_that_is_not_utf8_is_closed_with_1007(ws):
    await ws.send(b"caf\xe9", text=True)
    await is_closed_by_the_server(ws, 1007)


async def a_reserved_opcode_is_closed_with_1002(ws):
    # The library itself does not send what is wrong.
    ws.transport.write(b"\x83\x80\0\0\0\0")
    await is_closed_by_the_server(ws, 1002)


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
    a_long_message_is_closed_with_1009,
    a_message_that_grows_too_long_is_closed_with_1009,
    text_that_is_not_utf8_is_closed_with_1007,
    a_reserved_opcode_is_closed_with_1002,
]


def run(checks):
    async def each(check, context):
        async with asyncio.timeout(PATIENCE), context as ws:
            await check(ws)

    with server(harness.ECHO) as echo:
        for check in CHECKS:
            with checks.check(f"Python websockets: {check.__name__}"):
                asyncio.run(each(check, connect(f"ws://{echo.address}/", max_size=None)))
        for check in [
            a_close_is_answered_with_its_code,
            subprotocols_that_echo_does_not_know_are_left_out,
            a_hundred_connections_at_once,
        ]:
            with checks.check(f"Python websockets: {check.__name__}"):
                asyncio.run(asyncio.wait_for(check(echo.address), PATIENCE))
    with server(harness.ECHO, listen="[::1]:0") as echo:
        with checks.check("Python websockets: echo over IPv6"):
            asyncio.run(each(echo_comes_back, connect(f"ws://{echo.address}/", max_size=None)))
    # The axum example listens on TCP only.
    if harness.ECHO != "echo":
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo.sock"
        with server(harness.ECHO, listen=f"unix:{path}"):
            with checks.check("Python websockets: echo over a Unix socket"):
                context = unix_connect(path, "ws://localhost/", max_size=None)
                asyncio.run(each(echo_comes_back, context))
