"""Scenarios: data in `perf/scenarios/*.json`, checked when they are read."""

import json
import os

from . import BenchError, metrics

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scenarios")
REQUIRED = {"order": int, "title": str, "measure": str, "servers": list, "load": dict, "seconds": (int, float),
            "warmup": (int, float), "targets": list}
OPTIONAL = {"quick": dict, "files": dict, "rate": dict, "workers": int, "rounds_max": int,
            "upstream": str, "upstream_servers": int}
LOAD_KEYS = {"mode", "connections", "pipeline", "path", "send_bytes", "body_bytes"}
# A share of what the servers reach in a closed loop, or a number.
RATE_FORMS = ({"share", "of", "seconds", "samples"}, {"fixed"})
RATE_MEASURES = {"latency", "drain"}
# Addresses of one server of the upstream each, behind the first: 127.0.1.1 and so on.
UPSTREAM_SERVERS_MAX = 250
TARGET_FORMS = ({"metric", "max"}, {"metric", "versus", "ratio_max"}, {"metric", "versus", "no_worse_than"})
TARGET_NOTES = {"aim", "tolerance"}
QUICK_ROUNDS = 2


class Scenario:
    """One scenario, as it is to be run."""

    def __init__(self, name, data):
        check(name, data)
        self.name = name
        self.order = data["order"]
        self.title = data["title"]
        self.measure = data["measure"]
        self.servers = data["servers"]
        self.seconds = data["seconds"]
        self.workers = data.get("workers", 1)
        self.files = data.get("files", {})
        self.rate = data.get("rate")
        # The server that the others forward to, which runs beside the load; None where they answer by themselves.
        self.upstream = data.get("upstream")
        # How many servers it is, each an address of its own; 0 for one at the usual address.
        self.upstream_servers = data.get("upstream_servers", 0)
        self.targets = data["targets"]
        self.load = dict(data["load"], seconds=data["seconds"], warmup=data["warmup"])
        self.rounds_max = data.get("rounds_max")
        self._quick = data.get("quick", {})

    def shorten(self):
        """What `--quick` makes of it: good for seeing that everything runs, not for a result."""
        self.load.update(self._quick)
        self.seconds = self.load["seconds"]

    def rounds(self, wanted, is_quick):
        rounds = min(wanted, QUICK_ROUNDS) if is_quick else wanted
        return min(rounds, self.rounds_max or rounds)

    def estimate(self, rounds, servers):
        """About how long it takes, in seconds."""
        starting = 0.8
        once = self.seconds + self.load["warmup"] + starting
        first = self.rate["samples"] * (self.rate["seconds"] + starting) if self.rate and "samples" in self.rate else 0
        return servers * (rounds * once + first)

    def describe(self):
        """Its settings in one line."""
        load = self.load
        words = [f"{load['connections']} connection{'s' if load['connections'] != 1 else ''}"]
        if load.get("pipeline", 1) > 1:
            words.append(f"pipelined by {load['pipeline']}")
        if "send_bytes" in load:
            words.append(f"POST of {load['send_bytes']} bytes to `{load['path']}`, answered with {load['body_bytes']}")
        else:
            words.append(f"`{load['path']}` with a body of {load['body_bytes']} bytes")
        words.append(f"{self.seconds} s per round")
        if self.upstream_servers:
            words.append(f"{self.upstream_servers} upstream servers")
        words.append(f"{self.workers} worker{'s' if self.workers != 1 else ''}")
        return ", ".join(words)


def check(name, data):
    """Every mistake is named with what was expected."""

    def expect(is_right, expected, found):
        if not is_right:
            raise BenchError(f"scenario {name}: expected {expected}, found {found}")

    for key, kind in REQUIRED.items():
        expect(isinstance(data.get(key), kind), f"{key} of type {kind}", data.get(key))
    for key, value in data.items():
        expect(key in REQUIRED or isinstance(value, OPTIONAL.get(key, ())), "a known key of the right type", key)
    expect(data["measure"] in metrics.MEASURES, f"measure to be one of {sorted(metrics.MEASURES)}", data["measure"])
    expect(set(data["load"]) <= LOAD_KEYS, f"load with keys of {sorted(LOAD_KEYS)}", sorted(data["load"]))
    has_rate = data["measure"] in RATE_MEASURES
    expect(has_rate == ("rate" in data), f"a rate where it measures {sorted(RATE_MEASURES)}, only", data.get("rate"))
    expect(not has_rate or set(data["rate"]) in RATE_FORMS, f"a rate with keys {RATE_FORMS}", data.get("rate"))
    count = data.get("upstream_servers", 0)
    expect(0 <= count <= UPSTREAM_SERVERS_MAX, f"upstream_servers of 0 to {UPSTREAM_SERVERS_MAX}", count)
    expect(not count or "upstream" in data, "an upstream where there are upstream_servers", None)
    for target in data["targets"]:
        expect(set(target) - TARGET_NOTES in TARGET_FORMS, f"a target with keys {TARGET_FORMS}", target)
        expect(target["metric"] in metrics.METRICS, f"a metric of {sorted(metrics.METRICS)}", target["metric"])
        expect(target.get("versus") in [None] + data["servers"][1:], "a target versus another server", target)


def load_all():
    """All scenarios, in the order in which they are run."""
    found = []
    for file_name in os.listdir(FOLDER):
        name, ending = os.path.splitext(file_name)
        if ending == ".json":
            path = os.path.join(FOLDER, file_name)
            with open(path, encoding="utf-8") as file:
                try:
                    found.append(Scenario(name, json.load(file)))
                except json.JSONDecodeError as error:
                    raise BenchError(f"{path}: expected JSON, found: {error}") from error
    return sorted(found, key=lambda scenario: scenario.order)


def choose(names):
    """The named scenarios, or all."""
    scenarios = load_all()
    known = [scenario.name for scenario in scenarios]
    for name in names:
        if name not in known:
            raise BenchError(f"expected a scenario ({', '.join(known)}), found {name}")
    return [scenario for scenario in scenarios if not names or scenario.name in names]
