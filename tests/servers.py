"""Servers on loopback, for notifications: each keeps what it was sent, and fails on demand."""

import json
import socket
import struct
import threading
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from conftest import PATIENCE


class Web:
    """An HTTP server.

    Attributes:
        url: where it is, without a path.
        seen: the requests in the order of their arrival: path, headers and body.
        answers: what it answers next: a status, ``reset``, or an Event to wait for; then 200 again.
    """

    def __init__(self):
        self.seen, self.answers = [], []
        self.arrived = threading.Condition()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with web.arrived:
                    answer = web.answers.pop(0) if web.answers else 200
                    web.seen.append((self.path, dict(self.headers), body))
                    web.arrived.notify_all()
                if answer == "reset":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    return
                if isinstance(answer, threading.Event):
                    answer.wait()
                    answer = 200
                try:
                    self.send_response(answer)
                    self.end_headers()
                    self.wfile.write(b"OK" if answer == 200 else f"no {self.path}".encode())
                except OSError:  # the client was killed meanwhile
                    pass

            def log_message(self, *arguments):
                pass

            def finish(self):
                try:
                    super().finish()
                except (OSError, ValueError):
                    pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def wait_for(self, count):
        """Wait until so many requests have come; return them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.seen) >= count, PATIENCE), self.seen
            return list(self.seen)

    def events(self):
        """Return the kinds of the events that came as JSON."""
        return [json.loads(body)["event"] for _, _, body in self.seen]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Controller(Controller):
    def _trigger_server(self):
        """Connect to the port that it has got; the original connects to port 0."""
        with socket.create_connection(self.server.sockets[0].getsockname(), PATIENCE) as client:
            client.recv(1024)


class Mail:
    """An SMTP server.

    Attributes:
        url: where it is.
        seen: the messages, with their recipients, in the order of their arrival.
        answers: what it answers next to a message, instead of accepting it.
    """

    def __init__(self, **more):
        self.seen, self.answers = [], []
        self.arrived = threading.Condition()
        more = {"hostname": "127.0.0.1"} | more
        self._controller = _Controller(self, port=0, ready_timeout=PATIENCE, **more)
        self._controller.start()
        host, port = self._controller.server.sockets[0].getsockname()
        self.url = f"smtp://{host}:{port}"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        with self.arrived:
            if self.answers:
                return self.answers.pop(0)
            message = message_from_bytes(envelope.content, policy=policy.default)
            self.seen.append((message, envelope.rcpt_tos))
            self.arrived.notify_all()
        return "250 OK"

    def wait_for(self, count):
        """Wait until so many messages have come; return them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.seen) >= count, PATIENCE), self.seen
            return list(self.seen)

    def close(self):
        self._controller.stop()
