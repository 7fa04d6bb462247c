"""Runs scenarios: rounds in turns, one server alive at a time."""

import hashlib
import time

from . import BenchError, host, metrics
from .drains import Drains
from .load import Load
from .servers import Running

# What a server still does behind its last answer is over by then.
REST_SECONDS = 0.02
SETTLE_SECONDS = 0.5
SPARE_FILES = 200


class Bench:
    """What all scenarios of a run share."""

    def __init__(self, load_program, server_core, load_core, say, upstreams):
        self.load_program = load_program
        self.server_core = server_core
        self.load_core = load_core
        self.say = say
        # The servers that the others forward to, by the names that scenarios have for them.
        self.upstreams = upstreams
        self.open_files = host.raise_open_files()

    def start(self, scenario, server):
        cores = {self.server_core} if scenario.workers == 1 else {self.server_core, self.load_core}
        upstream = None
        if scenario.upstream:
            known = self.upstreams[scenario.upstream]
            upstream = Running(known, {self.load_core}, 1, scenario.files, more_addresses=scenario.upstream_servers)
            try:
                upstream.first_answer(scenario.load)
            except BaseException:
                upstream.close()
                raise
        return Running(server, cores, scenario.workers, scenario.files, upstream)

    def load(self, running, options):
        if options["connections"] + SPARE_FILES > self.open_files:
            raise BenchError(
                f"expected a limit on open files of {options['connections'] + SPARE_FILES}, found {self.open_files}: "
                "raise it (`ulimit -n`, or as root)"
            )
        return Load(self.load_program, {self.load_core}, running.port, options)


def window(bench, running, load):
    """The measured window of a load: the generator's result, the server's CPU time, and what else the core did."""
    time.sleep(REST_SECONDS)
    pids = running.pids()
    busy_before, stolen_before = host.core_seconds(bench.server_core)
    before = host.cpu_seconds(pids)
    started = time.monotonic()
    result = load.run()
    time.sleep(REST_SECONDS)
    length = time.monotonic() - started
    cpu = host.cpu_seconds(running.pids()) - before
    busy, stolen = host.core_seconds(bench.server_core)
    # Ticks of 10 ms against nanoseconds: a little below zero is zero.
    foreign = max(0.0, busy - busy_before - cpu) / length
    return result, cpu, {"foreign": foreign, "stolen": (stolen - stolen_before) / length}


def latencies(result):
    return {f"{name}_us": value for name, value in result["latency_us"].items()}


def measure_cost(bench, scenario, server, rate=None):
    """CPU per request under a load; `rate` for a fixed one."""
    with bench.start(scenario, server) as running:
        answer, _ = running.first_answer(scenario.load)
        with bench.load(running, dict(scenario.load, rate=rate)) as load:
            result, cpu, noise = window(bench, running, load)
            resident = host.resident_bytes(running.pids())
    found = dict(latencies(result), cpu_us=cpu * 1e6 / result["answered"], rate=result["answered"] / result["seconds"])
    found["rss_mib"] = resident / 2**20
    if rate is not None:
        found["lag_p999_us"] = result["lag_us"]["p999"]
    facts = {"answer": answer, "answer_bytes": result["answer_bytes"], "answered": result["answered"]}
    return found, dict(facts, noise=noise)


def measure_drain(bench, scenario, server, rate=None):
    """Requests at a fixed rate, while the servers behind it are drained and undrained one after another."""
    with bench.start(scenario, server) as running:
        answer, _ = running.first_answer(scenario.load)
        with bench.load(running, dict(scenario.load, rate=rate)) as load:
            with Drains(running.port2, len(running.upstream.addresses)) as drains:
                result = load.run(may_fail=True)
    if result["errors"]:
        bench.say(f"  {result['errors']} failed; the first: {result['first_error']}")
    found = dict(latencies(result), failed=result["errors"], answered=result["answered"], drains=drains.done)
    found["lag_p999_us"] = result["lag_us"]["p999"]
    return found, {"answer": answer, "answer_bytes": result["answer_bytes"], "answered": result["answered"]}


def measure_memory(bench, scenario, server, rate=None):
    """Resident memory that held connections add."""
    del rate
    with bench.start(scenario, server) as running:
        answer, _ = running.first_answer(scenario.load)
        time.sleep(SETTLE_SECONDS)
        before = host.resident_bytes(running.pids())
        with bench.load(running, scenario.load) as load:
            time.sleep(scenario.seconds)
            after = host.resident_bytes(running.pids())
            result = load.run()
    growth = (after - before) / scenario.load["connections"]
    found = {"connection_kib": growth / 1024, "rss_mib": after / 2**20}
    return found, {"answer": answer, "answer_bytes": result["answer_bytes"], "answered": result["answered"]}


def measure_rest(bench, scenario, server, rate=None):
    """The start, and then nothing."""
    del rate
    with bench.start(scenario, server) as running:
        answer, start_ms = running.first_answer(scenario.load)
        time.sleep(scenario.load["warmup"])
        pids = running.pids()
        before, started = host.cpu_seconds(pids), time.monotonic()
        time.sleep(scenario.seconds)
        cpu, length = host.cpu_seconds(pids) - before, time.monotonic() - started
        found = {"start_ms": start_ms, "rss_mib": host.resident_bytes(pids) / 2**20, "idle_cpu_ms": cpu * 1000 / length}
    return found, {"answer": answer, "answer_bytes": answer.size, "answered": 1}


MEASUREMENTS = {"cost": measure_cost, "latency": measure_cost, "drain": measure_drain, "memory": measure_memory,
                "rest": measure_rest}


def find_rate(bench, scenario, servers):
    """The fixed rate: a share of the lowest maximum of the servers that set it, each measured in a closed loop."""
    wanted = scenario.rate
    if "fixed" in wanted:
        return {"rate": wanted["fixed"]}
    best = {server.name: 0.0 for server in servers if server.name in wanted["of"]} or {servers[0].name: 0.0}
    for _ in range(wanted["samples"]):
        for server in servers:
            if server.name in best:
                options = dict(scenario.load, mode="closed", seconds=wanted["seconds"])
                with bench.start(scenario, server) as running:
                    running.first_answer(scenario.load)
                    with bench.load(running, options) as load:
                        result = load.run()
                best[server.name] = max(best[server.name], result["answered"] / result["seconds"])
    rate = round(min(best.values()) * wanted["share"])
    shown = ", ".join(f"{name} {value:,.0f}" for name, value in best.items())
    bench.say(f"  maxima {shown} per second; rate {rate:,}")
    return {"rate": rate, "maxima": best}


def check_answer(scenario, server, facts, first):
    """The same work for all: status 200 and the same body as the first server's."""
    answer = facts.pop("answer")
    wanted = scenario.load["body_bytes"]
    if not answer.status.startswith("HTTP/1.1 200") or len(answer.body) != wanted:
        raise BenchError(
            f"{server.name}: expected status 200 and {wanted} bytes for {scenario.load['path']}, "
            f"found {answer.status!r} and {len(answer.body)} bytes"
        )
    sent = scenario.load.get("send_bytes")
    if sent is not None and answer.body.strip() != b"%020d" % sent:
        raise BenchError(f"{server.name}: expected {sent} bytes to arrive at the upstream, found {answer.body!r}")
    facts["body_sha256"] = hashlib.sha256(answer.body).hexdigest()
    facts["fields"] = list(answer.fields)
    if first and first["body_sha256"] != facts["body_sha256"]:
        raise BenchError(f"{server.name}: expected the first server's body, found another of {wanted} bytes")


def run(bench, scenario, servers, rounds):
    """All rounds of a scenario. Any error ends it: a figure beside errors means nothing."""
    bench.say(f"{scenario.name}: {scenario.title}")
    rate = find_rate(bench, scenario, servers) if scenario.rate else None
    found = {server.name: [] for server in servers}
    facts = {}
    drawn = metrics.MEASURES[scenario.measure]["compared"]
    for number in range(1, rounds + 1):
        for server in servers:
            try:
                values, seen = MEASUREMENTS[scenario.measure](bench, scenario, server, rate and rate["rate"])
                check_answer(scenario, server, seen, next(iter(facts.values()), None))
            except BenchError as error:
                raise BenchError(f"{scenario.name}, round {number}, {server.name}: {error}") from error
            found[server.name].append(dict(values, **{key: seen[key] for key in ("answered", "noise") if key in seen}))
            facts[server.name] = seen
            words = [f"{metrics.METRICS[name].name} {metrics.METRICS[name].show(values[name])}" for name in drawn]
            bench.say(f"  round {number} of {rounds}, {server.name}: {', '.join(words)}")
    return collect(scenario, found, facts, rate)


def collect(scenario, found, facts, rate):
    """The result of a scenario: rounds, summaries and ratios."""
    compared = metrics.MEASURES[scenario.measure]["compared"]
    shown = metrics.MEASURES[scenario.measure]["shown"]
    base = next(iter(found))
    columns = {name: {key: [entry[key] for entry in rounds] for key in compared + shown if key in rounds[0]}
               for name, rounds in found.items()}
    servers = {}
    for name, rounds in found.items():
        servers[name] = {
            "answer_bytes": facts[name]["answer_bytes"],
            "fields": facts[name]["fields"],
            "summary": {key: metrics.summarize(values) for key, values in columns[name].items()},
            "rounds": rounds,
        }
    ratios = {key: {name: metrics.compare(columns[base][key], columns[name][key]) for name in found if name != base}
              for key in compared}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "measure": scenario.measure,
        "settings": scenario.describe(),
        "load": scenario.load,
        "rate": rate,
        "base": base,
        "servers": servers,
        "ratios": ratios,
    }
