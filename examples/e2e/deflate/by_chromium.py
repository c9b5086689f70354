"""Chromium, by the `WebSocket` of a page: it offers what it offers, and cuts long messages as it likes."""

import base64
import contextlib
import http.server
import pathlib
import threading

import traffic
from chat_browser import browser
from harness import PATIENCE
from traffic import HUGE, LONG, SMALL, cases
from wire import Proxy

SCRIPT = pathlib.Path(__file__).with_suffix(".js").read_text()


class Page(http.server.BaseHTTPRequestHandler):
    """A page of this machine: only such a one may connect to it."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def chromium():
    """A browser with a page, for all servers: to start one takes a second."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages, browser() as driver:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        try:
            driver.set_script_timeout(PATIENCE)
            driver.get("http://127.0.0.1:%d/" % pages.server_port)
            yield Chromium(driver)
        finally:
            pages.shutdown()


class Chromium:
    def __init__(self, driver):
        self.driver = driver

    def run(self, checks, server, mode):
        sent = cases(SMALL + LONG + ([] if mode.is_brief else HUGE), False)
        with Proxy(server.address) as proxy:
            with checks.check(f"Chromium: {len(sent)} messages"):
                extensions = self.talk(proxy.address, sent)
                connection = proxy.take()
                agreed = traffic.check(connection, sent, mode.compresses)
                mode.check(agreed, {"client_max_window_bits": True})
                assert bool(extensions) == mode.compresses, extensions
                assert extensions.encode() in connection.received.split(b"\r\n\r\n")[0], extensions

    def talk(self, address, sent):
        """Sends the messages from the page, which holds that they come back; returns its `extensions`."""
        sources = {}
        plan = []
        for case in sent:
            name = f"{case.opcode} {case.is_noise} {case.is_record}"
            sources[name] = base64.b64encode(case.source).decode()
            plan.append({"source": name, "size": case.size, "isText": case.is_text})
        result = self.driver.execute_async_script(SCRIPT, f"ws://{address}/", sources, plan)
        assert "error" not in result, result["error"]
        return result["extensions"]
