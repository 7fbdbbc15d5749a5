"""A server of one folder on this machine that can break connections, lie, and change what it offers."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Shop:
    """What the server does; tests change it while it runs."""

    files: dict[str, bytes]
    break_after: list[int] = field(default_factory=list)  # bytes sent over each of the next connections
    states: list[int] = field(default_factory=list)  # of the next answers, instead of the file
    ranges: bool = True
    validators: bool = True
    content_type: str = "application/octet-stream"
    length: int | None = None  # that the server says instead of the true one
    redirect: str = ""
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range of every request
    sent: int = 0  # bytes of bodies

    def etag(self, name: str) -> str:
        return f'"{hashlib.md5(self.files[name]).hexdigest()}"'


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Shop]:
    """Serve `files` by name until the block ends."""
    shop = Shop(dict(files))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            shop.asked.append((name, self.headers.get("Range", "")))
            if shop.redirect:
                self.send_response(302)
                self.send_header("Location", shop.redirect)
                self.end_headers()
                return
            state = shop.states.pop(0) if shop.states else 200
            if state != 200 or name not in shop.files:
                self.send_error(state if state != 200 else 404)
                return
            body, start = shop.files[name], 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") in (None, shop.etag(name))
            if wanted and shop.ranges and same:
                start = int(wanted[1])
                if start >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            rest = body[start:]
            self.send_header("Content-Type", shop.content_type)
            self.send_header("Content-Length", str(len(rest) if shop.length is None else shop.length))
            if shop.validators:
                self.send_header("ETag", shop.etag(name))
            self.end_headers()
            rest = rest[: shop.break_after.pop(0)] if shop.break_after else rest
            shop.sent += len(rest)  # before: the client may look at this as soon as the last byte is out
            self.wfile.write(rest)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed, or has seen enough, is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    shop.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
