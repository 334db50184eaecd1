"""A model's API (Chat Completions) whose answers the test says, word by word."""

import json
import queue
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support import PATIENCE_S, Server, until

RESET = object()
END = object()


class Answer:
    """One request to the model, and its answer in the making."""

    def __init__(self, asked):
        self.asked = asked
        self.status = 200
        self.media = "text/event-stream"
        self.pieces = queue.Queue()
        self.is_left = threading.Event()

    def _chunk(self, delta, finish=None):
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        self.pieces.put(f"data: {json.dumps(chunk | {'choices': choices})}\n\n")

    def say(self, *words):
        for word in words:
            self._chunk({"content": word})

    def call(self, call_id, name, arguments):
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": call_id, "type": "function", "function": function}
        self._chunk({"tool_calls": [call]})

    def finish(self, reason="stop"):
        self._chunk({}, reason)
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        self.pieces.put(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n")
        self.pieces.put(END)

    def reset(self):
        """Resets the connection in the middle of the answer."""
        self.pieces.put(RESET)

    def refuse(self, status, message):
        self.status, self.media = status, "application/json"
        self.pieces.put(json.dumps({"error": {"message": message}}))
        self.pieces.put(END)


class Model:
    """The model behind the agent `gpt` of a server; `answers` are all that it was asked for."""

    def __init__(self, folder):
        self.answers = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["content-length"])
                answer = Answer(json.loads(self.rfile.read(length)))
                model.answers.append(answer)
                serve(self, answer)

            def log_message(self, *_):
                pass

        self.api = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.api.daemon_threads = True
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{self.api.server_port}"
        agent = f'kind = "openai-chat"\nbase_url = "{base}"\nmodel = "m"\nretries = 0\n'
        file = folder / "segue.toml"
        file.write_text(f'default_agent = "gpt"\n[agents.gpt]\n{agent}')
        self.server = Server(folder, {"SEGUE_CONFIG": str(file)})

    def answer(self, count=1):
        """The answer that is asked for once there are `count`."""
        until(f"the model is asked {count} times", lambda: len(self.answers) >= count)
        return self.answers[count - 1]

    def close(self):
        self.server.kill()
        self.api.shutdown()
        self.api.server_close()


def serve(handler, answer):
    piece = answer.pieces.get(timeout=PATIENCE_S)
    handler.send_response(answer.status)
    handler.send_header("content-type", answer.media)
    handler.end_headers()
    while piece is not END:
        if piece is RESET:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.wfile.flush()
            handler.connection.close()
            return
        try:
            handler.wfile.write(piece.encode())
        except OSError:
            answer.is_left.set()
            return
        piece = answer.pieces.get(timeout=PATIENCE_S)
