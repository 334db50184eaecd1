"""A server that says what a test tells it to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scripted:
    """Answers the `n`th request (from 0) with `answer(n, request)`; keeps the requests."""

    def __init__(self, answer):
        self.requests = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with lock:
                    outer.requests.append(self)
                    number = len(outer.requests) - 1
                answer(number, self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def reply(request, status=200, body=b"", **headers):
    """A whole answer; `content_type="x"` is the header `content-type`."""
    request.send_response(status)
    for name, value in {"connection": "close", **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body if isinstance(body, bytes) else body.encode())


def stream(request, text):
    """An event stream that says this and ends in order."""
    reply(request, 200, text, content_type="text/event-stream")


def event(seq, kind="text.delta", **fields):
    """An event of the run `r`."""
    fields = fields or {"part": "p", "text": f"{seq} "}
    return {"seq": seq, "at": "2026-11-20T12:00:00.000Z", "run_id": "r", "type": kind, **fields}


def frame(seq, kind="text.delta", **fields):
    """The frame of an event of the run `r`."""
    return f"id: r:{seq}\nevent: {kind}\ndata: {json.dumps(event(seq, kind, **fields))}\n\n"
