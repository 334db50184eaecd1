#!/usr/bin/env python3
"""Hammers a session of a running server with double sends, stops and reloads, then looks whether
every run has ended in a way that its own log explains.

    cargo run --release                    # in another terminal
    python3 examples/hammer.py             # five minutes; --seconds 10 for a taste

Nothing but Python's standard library. Exits with 1, and says why, if a run is not terminal, has not
exactly one terminal as its last event, is missing or doubles an event for any reader, or if a start
that was sent twice made two runs.
"""

import argparse
import collections
import http.client
import json
import random
import sys
import threading
import urllib.parse

TERMINAL = {"run.finished", "run.stopped", "run.failed", "run.interrupted"}
POLICIES = ["reject", "queue", "replace", "parallel"]


class Server:
    """Plain requests, each over a connection of its own."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc

    def open(self, method, path, body=None, headers=(), timeout=60):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        headers = dict(headers)
        if body is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        return connection, connection.getresponse()

    def call(self, method, path, body=None, headers=()):
        connection, response = self.open(method, path, body, headers)
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def events(self, run):
        """Everything that the journal has of a run."""
        events, after = [], f"{run}:0"
        while after:
            path = f"/v1/runs/{run}/events?after={urllib.parse.quote(after)}"
            status, page = self.call("GET", path, headers={"accept": "application/json"})
            assert status == 200, page
            events += page["data"]
            after = page["next"] if page["data"] else None
        return events


class Hammer:
    """What all threads share."""

    def __init__(self, server, session, seed):
        self.server = server
        self.session = session
        self.seed = seed
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.runs = {}
        self.failures = []
        self.counts = collections.Counter()

    def fail(self, why):
        with self.lock:
            self.failures.append(why)

    def some_run(self, dice):
        with self.lock:
            return dice.choice(list(self.runs)[-8:]) if self.runs else None

    def starter(self, dice, index):
        """Starts runs, each start sent two or three times at once."""
        number = 0
        while not self.over.is_set():
            number += 1
            key = f"hammer-{self.seed}-{index}-{number}"
            push = dice.random() < 0.4
            body = {
                "agent": "push" if push else "demo",
                "policy": dice.choice(POLICIES),
                "input": f"question {number}",
                "limits": {"lease_s": 5} if push else {"wall_clock_s": 30},
            }
            if not push:
                body["params"] = {"speed": dice.randint(5, 400)}
            path = f"/v1/sessions/{self.session}/runs"
            got = self.at_once(dice.randint(2, 3), path, body, {"idempotency-key": key})
            made = {answer["id"] for status, answer in got if status in (200, 202)}
            refused = {answer["code"] for status, answer in got if status >= 400}
            if len(made) > 1:
                self.fail(f"{key}: a start that was sent twice made {sorted(made)}")
            if refused - {"session_busy"}:
                self.fail(f"{key}: refused with {refused}")
            self.counts["starts"] += 1
            for run in made:
                with self.lock:
                    self.runs[run] = body["agent"]
                if push:
                    self.produce(dice, run)
            self.over.wait(dice.random() * 0.1)

    def at_once(self, times, path, body, headers):
        got = []

        def send():
            got.append(self.server.call("POST", path, body, headers))

        threads = [threading.Thread(target=send) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return got

    def produce(self, dice, run):
        """A producer with numbers that sends some batches twice, and may forget to end."""
        headers = {"producer-id": "hammer", "producer-epoch": "0"}
        for number in range(dice.randint(1, 6)):
            event = {"type": "text.delta", "part": "p", "text": f"{number} "}
            headers["producer-seq"] = str(number)
            answers = []
            for _ in range(dice.randint(1, 2)):
                path = f"/v1/runs/{run}/events"
                answers.append(self.server.call("POST", path, event, headers))
            places = {a["last_seq"] for status, a in answers if status == 200}
            if len(places) > 1:
                self.fail(f"{run}: an append that was sent twice stands at {places}")
            if any(status != 200 for status, _ in answers):
                return  # Queued, stopped or replaced meanwhile.
        if dice.random() < 0.7:
            self.server.call("POST", f"/v1/runs/{run}/events", {"type": "run.finished"})

    def stopper(self, dice, _index):
        """Stops a run or the session, now and then twice, now and then a run that is not there."""
        while not self.over.is_set():
            self.over.wait(dice.random() * 0.4)
            run = self.some_run(dice)
            if run is None:
                continue
            path = f"/v1/runs/{run}/stop"
            if dice.random() < 0.1:
                path = f"/v1/sessions/{self.session}/stop"
            elif dice.random() < 0.1:
                path = f"/v1/runs/never-{dice.randint(0, 1 << 40)}/stop"
            for _ in range(dice.randint(1, 2)):
                status, answer = self.server.call("POST", path, {"wait": dice.choice([0, 1])})
                if status != 200:
                    self.fail(f"{path}: {status} {answer}")
                self.counts["stops"] += 1

    def reloader(self, dice, _index):
        """Attaches to a run, leaves in the middle, and comes back with its last id."""
        while not self.over.is_set():
            run = self.some_run(dice)
            if run is None:
                self.over.wait(0.05)
                continue
            seqs, ended = [], False
            for _ in range(dice.randint(1, 5)):
                ended = self.attach(dice, run, seqs)
                if ended:
                    break
            self.counts["reloads"] += 1
            if seqs != list(range(1, len(seqs) + 1)):
                self.fail(f"{run}: a reader saw {seqs}")

    def attach(self, dice, run, seqs):
        """Reads some frames; true at the run's end."""
        headers = {"accept": "text/event-stream"}
        if seqs:
            headers["last-event-id"] = f"{run}:{seqs[-1]}"
        connection, response = self.server.open("GET", f"/v1/runs/{run}/events", headers=headers)
        leave = dice.randint(1, 80)
        kind = None
        try:
            if response.status == 204:
                return True
            for line in response:
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    if kind.startswith("control."):
                        self.fail(f"{run}: got {kind} for a cursor that is good")
                        return True
                    seqs.append(json.loads(line[6:])["seq"])
                    if kind in TERMINAL:
                        return True
                    leave -= 1
                if leave == 0:
                    return False
            return False
        finally:
            connection.close()

    def check(self, run):
        """Its end, and that its log explains it."""
        status, view = self.server.call("GET", f"/v1/runs/{run}")
        events = self.server.events(run)
        ends = [event for event in events if event["type"] in TERMINAL]
        if status != 200 or not view.get("ended_at"):
            return f"{run} has not ended: {view}"
        if len(ends) != 1 or events[-1] is not ends[0]:
            return f"{run} has the ends {ends} among {len(events)} events"
        if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
            return f"{run} has holes"
        end = ends[0]
        if end["type"] != f"run.{view['status']}" or view["last_seq"] != len(events):
            return f"{run} is {view}, its log ends with {end}"
        why = end.get("reason") or end.get("cause") or end.get("finish_reason") or "done"
        self.counts[f"{view['status']} ({why})"] += 1
        return None

    def run(self, seconds):
        actors = [self.starter] * 3 + [self.stopper] * 2 + [self.reloader] * 4
        threads = []
        for index, actor in enumerate(actors):
            dice = random.Random(f"{self.seed}-{index}")
            thread = threading.Thread(target=self.guarded, args=(actor, dice, index))
            thread.start()
            threads.append(thread)
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        for _ in range(3):  # Whoever waited in the line begins when others end.
            path = f"/v1/sessions/{self.session}/stop"
            self.server.call("POST", path, {"wait": 20})
        for run in self.runs:
            self.server.call("POST", f"/v1/runs/{run}/stop", {"wait": 20})
            why = self.check(run)
            if why:
                self.fail(why)
        _, session = self.server.call("GET", f"/v1/sessions/{self.session}")
        if session and session["active_runs"]:
            self.fail(f"the session is still busy: {session}")

    def guarded(self, actor, dice, index):
        try:
            actor(dice, index)
        except Exception as error:  # Whatever it is, it is to be seen at the end.
            self.fail(f"{actor.__name__} {index}: {error!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:7878")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.seconds:g} s")
    hammer = Hammer(Server(args.server), f"hammer-{args.seed}", args.seed)
    hammer.run(args.seconds)
    print(f"{len(hammer.runs)} runs: {dict(sorted(hammer.counts.items()))}")
    for failure in hammer.failures[:20]:
        print("wrong:", failure)
    if not hammer.runs:
        print("wrong: nothing was started")
    print("every run has one end, and its log says which" if not hammer.failures else "FAILED")
    return 1 if hammer.failures or not hammer.runs else 0


if __name__ == "__main__":
    sys.exit(main())
