"""A small HTTP server for rows about remotes: what is below a folder, from memory, every answer a fixed time late.

    server.py FOLDER MILLISECONDS

Prints its port when it listens, on loopback alone. `GET /count` answers with the requests and the bytes of bodies
so far, as JSON. It knows GET and HEAD, one range a request and connections that stay; nothing that a client of ours
would not send. It is one process without threads, fast enough for some 20,000 requests a second on one core.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path


class Served:
    """The files, and what was asked for."""

    def __init__(self, folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        self.files = {f"/{path.relative_to(folder)}".encode(): path.read_bytes() for path in files}
        self.requests = self.bytes = 0

    def answer(self, head):
        """The answer to a request, whose head ends before the empty line."""
        method, path, _ = head.split(b" ", 2)
        body = self.files.get(path)
        if path == b"/count":
            body = json.dumps({"requests": self.requests, "bytes": self.bytes}).encode()
        if body is None:
            self.requests += 1
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        first = b"HTTP/1.1 200 OK\r\n"
        at = head.lower().find(b"\r\nrange: bytes=")
        if at >= 0:
            start, _, last = head[at + 15:].split(b"\r\n", 1)[0].partition(b"-")
            start, end = int(start), min(int(last or len(body)) + 1, len(body))
            first = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, end - 1, len(body))
            body = body[start:end]
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        self.requests += 1
        if method == b"HEAD":
            return first + length
        self.bytes += len(body)
        return first + length + body


class Connection(asyncio.Protocol):
    def __init__(self, served, delay):
        self.served, self.delay, self.received = served, delay, b""
        self.later = asyncio.get_running_loop().call_later

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head, self.received = self.received[:end + 2], self.received[end + 4:]
            self.later(self.delay, self.reply, head)

    def reply(self, head):
        # Nobody waits for an answer on a connection that was closed meanwhile.
        if not self.transport.is_closing():
            self.transport.write(self.served.answer(head))


async def main(folder, milliseconds):
    served = Served(Path(folder))
    # Nothing here makes cycles, and a hundred thousand files are slow to look through for some.
    gc.disable()
    delay = float(milliseconds) / 1000
    server = await asyncio.get_running_loop().create_server(lambda: Connection(served, delay), "127.0.0.1", 0,
                                                             backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
