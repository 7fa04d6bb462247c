"""Takes the servers of an upstream out and puts them back, one after another, by the admin listener, under load."""

import http.client
import json
import threading
import time

from . import BenchError

ANSWER_SECONDS = 5
# How long a server stays out and in: long enough for requests to be sent meanwhile, short enough for many turns.
HOLD_SECONDS = 0.02


class Drains:
    """A context manager; inside, a thread drains and undrains. Behind it all servers are in again."""

    def __init__(self, admin_port, servers, upstream="up"):
        self.admin_port = admin_port
        self.servers = servers
        self.upstream = upstream
        # How many times a server was taken out, stood without a request, and was put back.
        self.done = 0
        self.error = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        self._thread.join()
        # What went wrong in the load comes first: it may be why this went wrong.
        if kind is None and self.error:
            raise BenchError(self.error)
        if kind is None and self.done < self.servers:
            raise BenchError(f"expected each of {self.servers} servers to be drained once, found {self.done} drains")

    def _run(self):
        try:
            while not self._stop.is_set():
                for number in range(self.servers):
                    self._turn(number)
        except (BenchError, OSError, http.client.HTTPException, ValueError, LookupError) as error:
            self.error = f"expected to drain and undrain servers, found: {error}"

    def _turn(self, number):
        """A server goes, is not asked any more, and comes back."""
        self._set(number, "drain")
        deadline = time.monotonic() + ANSWER_SECONDS
        time.sleep(HOLD_SECONDS)
        while self._describe(number)["in_flight"] > 0:
            if time.monotonic() > deadline:
                raise BenchError(f"server {number} still has requests {ANSWER_SECONDS} s after it was drained")
            time.sleep(HOLD_SECONDS)
        self._set(number, "undrain")
        self.done += 1
        time.sleep(HOLD_SECONDS)

    def _set(self, number, what):
        answer = self._ask("POST", f"/upstreams/{self.upstream}/servers/{number}/{what}")
        if not answer["changed"] or answer["server"]["drained"] != (what == "drain"):
            raise BenchError(f"expected server {number} to be changed by {what}, found {answer}")

    def _describe(self, number):
        upstreams = self._ask("GET", "/upstreams")["upstreams"]
        return next(entry for entry in upstreams if entry["name"] == self.upstream)["servers"][number]

    def _ask(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise BenchError(f"expected status 200 for {method} {path}, found {answer.status}: {body!r}")
        return json.loads(body)
