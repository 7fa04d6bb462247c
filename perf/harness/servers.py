"""The servers that are measured: how each is found, configured, started, asked and stopped."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from . import BenchError, host, processes

PEERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peers")
START_SECONDS = 10
NOWHERE = "127.0.0.1:1"
ANSWER_SECONDS = 5
# Debian keeps servers where an ordinary user's PATH does not look.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"


def fill(text, values):
    """Replaces every @NAME@; one that has no value is a mistake in the template."""

    def value(match):
        name = match.group(1)
        if name not in values:
            raise BenchError(f"expected one of {sorted(values)} in a template, found @{name}@")
        return str(values[name])

    return re.sub(r"@([A-Z0-9]+)@", value, text)


class Server:
    """One server that can be started many times."""

    def __init__(self, name, spec, program=None):
        self.name = name
        self.spec = spec
        self.program = program or spec["program"]

    def find(self):
        """The path of its program; None where it is not installed."""
        return shutil.which(self.program, path=PATH)

    def version(self):
        ended = subprocess.run([self.find()] + self.spec["version"], capture_output=True, text=True, timeout=10)
        found = re.search(r"\d+\.\d+\S*", ended.stdout + ended.stderr)
        return found.group(0) if found else "unknown version"

    def missing(self):
        """What to do where it is not installed."""
        package = self.spec.get("package")
        return f"apt-get install {package}" if package else f"build {self.program}"


def addresses(count, port):
    """So many addresses of this host, with the same port; they need no set-up, for all of 127.0.0.0/8 is this host."""
    return [f"127.0.1.{number}:{port}" for number in range(1, count + 1)]


def repeat(spec, key, places):
    """A template of a spec, which has the text for one address and what stands between two, for each of these."""
    template = spec.get(key)
    if template is None:
        return ""
    parts = [fill(template["each"], {"ADDRESS": place, "NUMBER": at}) for at, place in enumerate(places)]
    return template["between"].join(parts)


def load_specs():
    with open(os.path.join(PEERS, "servers.json"), encoding="utf-8") as file:
        return json.load(file)


class Running:
    """A started server; a context manager that stops it and removes its directory."""

    def __init__(self, server, cores, workers, files, upstream=None, more_addresses=0):
        self.server = server
        self.upstream = upstream
        self.more_addresses = more_addresses
        self.directory = tempfile.mkdtemp(prefix=f"bench-{server.name}-")
        self.process = None
        try:
            self._write_files(files)
            self._start(cores, workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            if self.process is not None:
                processes.stop(self.process)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
            if self.upstream is not None:
                self.upstream.close()

    def _write_files(self, files):
        folder = os.path.join(self.directory, "files")
        os.mkdir(folder)
        for name, size in files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(bytes(at * 7 % 251 for at in range(4096)) * (size // 4096) + b"x" * (size % 4096))

    def _start(self, cores, workers):
        self.port, self.port2 = host.free_port(), host.free_port()
        # Where those that forward to it find it: each address stands for a server.
        more = addresses(self.more_addresses, self.port)
        self.addresses = more or [f"127.0.0.1:{self.port}"]
        spec = self.server.spec
        config = spec.get("config", "")
        values = {
            "PORT": self.port,
            "PORT2": self.port2,
            "DIR": self.directory,
            "WORKERS": workers,
            "CONFIG": os.path.join(self.directory, config),
            "RINGFORT": self.server.program,
            "MORE": repeat(spec, "more", more),
            "4KIB": "x" * 4096,
            # Nobody is asked there where nothing is forwarded.
            "SERVERS": repeat(spec, "servers", self.upstream.addresses if self.upstream else [NOWHERE]),
        }
        values.update(spec.get("values", {}))
        if config:
            with open(os.path.join(PEERS, config), encoding="utf-8") as file:
                text = fill(file.read(), values)
            with open(values["CONFIG"], "w", encoding="utf-8") as file:
                file.write(text)
        command = [self.server.find()] + [fill(argument, values) for argument in spec["arguments"]]
        self.log = os.path.join(self.directory, "output")
        with open(self.log, "wb") as log:
            self.started = time.monotonic()
            self.process = processes.start(
                command, cores, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )

    def complain(self, what):
        tail = host.read_text(self.log).strip().splitlines()[-5:]
        said = "; it said:\n  " + "\n  ".join(tail) if tail else "; it said nothing"
        return BenchError(f"{self.server.name}: {what}{said}")

    def first_answer(self, load):
        """The first answer to a request of this load, and the milliseconds from the start of the process to its end."""
        deadline = self.started + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self.complain(f"expected it to serve, it ended with code {self.process.returncode}")
            try:
                answer = ask(self.port, load)
                return answer, (time.monotonic() - self.started) * 1000
            except ConnectionRefusedError:
                time.sleep(0.0002)
            except OSError as error:
                raise self.complain(f"expected an answer for {load['path']}, found: {error}") from error
        raise self.complain(f"expected it to listen within {START_SECONDS} s, nobody listens on port {self.port}")

    def pids(self):
        return host.family(self.process.pid)


class Answer:
    """One response, whole."""

    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.status = lines[0]
        self.fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        self.body = body
        self.size = len(head) + 4 + len(body)


def ask(port, load):
    """One request, in the words of the load generator."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
        lines = [f"Host: 127.0.0.1:{port}"]
        if "send_bytes" in load:
            lines.append(f"Content-Length: {load['send_bytes']}")
        if load.get("mode") == "connect":
            lines.append("Connection: close")
        method = "POST" if "send_bytes" in load else "GET"
        head = "\r\n".join([f"{method} {load['path']} HTTP/1.1"] + lines + ["", ""])
        connection.sendall(head.encode() + b"x" * load.get("send_bytes", 0))
        raw = b""
        while True:
            head, end, body = raw.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if end and length is None:
                raise OSError(f"no Content-Length in {head!r}")
            if end and len(body) >= int(length.group(1)):
                return Answer(head, body)
            part = connection.recv(1 << 20)
            if not part:
                raise OSError(f"the connection was closed after {len(raw)} bytes")
            raw += part
