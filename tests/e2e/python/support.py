"""A real server for a test, and small words for what tests ask of it."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

import httpx

PATIENCE_S = 60
LOOK_S = 0.02


def until(what, look):
    """Waits until `look` gives something true, and gives it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(LOOK_S)
    return found


class Server:
    """A `segue serve` over a data folder of its own."""

    def __init__(self, folder, settings=None):
        self.folder = folder
        self.settings = settings or {}
        self.http = None
        self._serve("127.0.0.1:0")

    def _serve(self, listen):
        # Small segments: a folder has room for two of them from the first moment.
        small = {"SEGUE_SEGMENT_MIB": "4"}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **small, **self.settings}
        self.data = self.folder / "data"
        command = [os.environ["SEGUE_BIN"], "serve", "--listen", listen, "--data", str(self.data)]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
        first = self.process.stdout.readline().decode()
        found = re.match(r"Segue is at (http://\S+)/$", first)
        assert found, f"the server did not come up: {(self.folder / 'log').read_text()}"
        self.url = found[1]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def kill(self):
        self.http.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def again(self):
        """Starts it again, at the same address over the same data."""
        self._serve(self.url.removeprefix("http://"))

    def token(self):
        """The token of the admin scope."""
        return (self.folder / "data" / "admin.token").read_text().strip()

    def start(self, **body):
        answer = self.http.post("/v1/sessions/s/runs", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def run(self, run):
        return self.http.get(f"/v1/runs/{run}").json()

    def wait_for_end(self, run):
        return until("the run has ended", lambda: self.run(run).get("ended_at"))

    def journal(self, run):
        """All events that the journal has of a run."""
        events, after = [], f"{run}:0"
        while after:
            page = self.http.get(
                f"/v1/runs/{run}/events",
                params={"after": after},
                headers={"accept": "application/json"},
            ).json()
            events += page["data"]
            after = page["next"] if page["data"] else None
        return events


class Cutter:
    """Stands between a client and the server and cuts connections.

    Each is cut after so many bytes of the answer (`down()`) or of the request (`up()`); None is never.
    """

    def __init__(self, server, down, up=lambda: None):
        host, port = server.url.removeprefix("http://").split(":")
        self._upstream = (host, int(port))
        self._down, self._up = down, up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                client.close()
                continue
            for source, sink, left in ((server, client, self._down()), (client, server, self._up())):
                threading.Thread(target=_carry, args=(source, sink, left), daemon=True).start()


def _carry(source, sink, left):
    try:
        while left is None or left > 0:
            piece = source.recv(min(65536, left or 65536))
            if not piece:
                break
            sink.sendall(piece)
            left = None if left is None else left - len(piece)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()


def text_of(events):
    return "".join(event["text"] for event in events if event["type"] == "text.delta")
