"""The load generator, `perf/load`, as a process that rests before and behind the measured window."""

import json
import subprocess
import threading

from . import BenchError, processes

SPARE_SECONDS = 30


class Load:
    """A context manager; inside, the connections are open and the server has been warmed up."""

    def __init__(self, program, cores, port, options):
        command = [program, options["mode"], "--address", f"127.0.0.1:{port}", "--gate"]
        for name in ("path", "connections", "pipeline", "seconds", "warmup", "rate", "send_bytes", "body_bytes"):
            if options.get(name) is not None:
                command += ["--" + name.replace("_", "-"), str(options[name])]
        self.limit = options["seconds"] + options["warmup"] + SPARE_SECONDS
        pipe = subprocess.PIPE
        self.process = processes.start(command, cores, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.alarm = threading.Timer(self.limit, self.process.kill)
        self.alarm.start()

    def __enter__(self):
        try:
            line = self._line()
            if line != "ready":
                raise BenchError(f"expected `ready` of the load generator, found {line!r}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.alarm.cancel()
        processes.stop(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip() or f"it was ended after {self.limit:.0f} s"
            raise BenchError(f"expected a result of the load generator, found none: {said}")
        return line.strip()

    def run(self, may_fail=False):
        """The measured window: its result, with all connections still open. Whoever counts failures says `may_fail`."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        result = json.loads(self._line())
        if result["errors"] and not may_fail:
            raise BenchError(f"expected no errors, found {result['errors']}; the first: {result['first_error']}")
        if not result["answered"]:
            raise BenchError("expected answers in the measured window, found none")
        return result
