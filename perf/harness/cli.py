"""The command line of `scripts/bench`."""

import argparse
import datetime
import os
import signal
import subprocess
import sys

from . import BenchError, host, measure, metrics, programs, report, scenario
from .servers import Running, Server, load_specs

RESULTS = os.path.join(programs.ROOT, "perf", "results")
EXECUTORS = ["compio", "monoio", "glommio"]
EXECUTOR_SCENARIOS = [
    "keep-alive-64", "keep-alive-512", "pipelined-16", "new-connection", "file-1mib", "idle-connections"
]
# Above this load average something else is using the cores.
BUSY = 0.5

DESCRIPTION = """\
Measures Ringfort beside nginx and HAProxy on this host, in rounds that take turns, and stores the results.

  scripts/bench [SCENARIO..]      measure; all scenarios if none is named
  scripts/bench list              the scenarios, with their targets
  scripts/bench executors [SCENARIO..]
                                  Ringfort on compio, monoio and glommio, in one run

What counts is server CPU per request; requests per second are shown and decide nothing. Needs two cores to itself:
while other programs run, the figures mean little. perf/README.md says more."""


def parse(words):
    parser = argparse.ArgumentParser("scripts/bench", description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="names that `list` shows")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each server (5)")
    parser.add_argument("--quick", action="store_true", help="short and few rounds: whether it runs, not a result")
    parser.add_argument("--out", metavar="DIR", help="where results go (perf/results; if --quick, target/bench)")
    parser.add_argument("--ringfort", metavar="FILE", help="a binary to measure, instead of building one")
    parser.add_argument("--also", metavar="NAME=FILE", action="append", default=[],
                        help="another Ringfort binary, measured in turns with the first")
    parser.add_argument("--server-core", type=int, metavar="N", help="core of the server (the first allowed)")
    parser.add_argument("--load-core", type=int, metavar="N", help="core of the load (the next)")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, found {arguments.rounds}")
    return arguments


def say(line):
    print(line, flush=True)


def main(words=None):
    arguments = parse(sys.argv[1:] if words is None else words)
    # So that a `kill` ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.names[:1] == ["list"]:
            return list_scenarios()
        if arguments.names[:1] == ["executors"]:
            return measure_executors(arguments, arguments.names[1:])
        return measure_peers(arguments)
    except BenchError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/bench: interrupted; nothing was stored", file=sys.stderr)
        return 130


def list_scenarios():
    for entry in scenario.load_all():
        say(f"{entry.name}\n  {entry.title}\n  {', '.join(entry.servers)}; {entry.describe()}")
        for target in entry.targets:
            say("  target: " + describe_target(target))
    return 0


def describe_target(target):
    name = metrics.METRICS[target["metric"]]
    if "max" in target:
        return f"{name.name} at most {target['max']} {name.unit}"
    if "ratio_max" in target:
        return f"{name.name} at most {target['ratio_max']} × {target['versus']}"
    return f"{name.name} as a ratio to {target['versus']} no worse than in {target['no_worse_than']}"


def measure_peers(arguments):
    """Ringfort beside the others."""
    scenarios = scenario.choose(arguments.names)
    specs = load_specs()
    ringfort = find_ringfort(arguments)
    known = {name: Server(name, spec, ringfort if spec["program"] == "@RINGFORT@" else None) for name, spec in specs.items()}
    missing = find_missing(known, scenarios)
    also = [Server(name, specs["ringfort"], path) for name, path in map(split_also, arguments.also)]

    def servers_of(entry):
        servers = [known[name] for name in entry.servers if name not in missing]
        return servers[:1] + (also if servers[0].name == "ringfort" else []) + servers[1:]

    name = "-".join(arguments.names) or "all"
    return run(arguments, scenarios, servers_of, name, "Ringfort beside other servers", missing)


def find_ringfort(arguments):
    if arguments.ringfort:
        path = os.path.abspath(arguments.ringfort)
        if not os.access(path, os.X_OK):
            raise BenchError(f"--ringfort: expected a program, found none at {path}")
        return path
    return programs.build(programs.ROOT, "ringfort")


def split_also(text):
    name, _, path = text.partition("=")
    path = os.path.abspath(path)
    if not name or not os.access(path, os.X_OK):
        raise BenchError(f"--also: expected NAME=FILE with a program, found {text!r}")
    return name, path


def find_missing(known, scenarios):
    """The servers that are not installed, with what to do about it."""
    wanted = [name for entry in scenarios for name in entry.servers]
    missing = {}
    for name in dict.fromkeys(wanted):
        if known[name].find() is None:
            missing[name] = known[name].missing()
            say(f"{name} is not installed; without it: {missing[name]}")
    return missing


def measure_executors(arguments, names):
    """Ringfort on each executor that it can be built with."""
    scenarios = scenario.choose(names or EXECUTOR_SCENARIOS)
    lacking = [name for name in EXECUTORS[1:] if name not in programs.features()]
    for name in lacking:
        say(f"{name}: expected a feature of this name in Cargo.toml, found none; without it")
    usable = [name for name in EXECUTORS if name not in lacking]
    if arguments.ringfort:
        program = find_ringfort(arguments)
    else:
        program = programs.build(programs.ROOT, "ringfort", usable[1:])
    missing = {name: "Cargo.toml has no such feature" for name in lacking}
    # A binary with one executor may have no flag to choose it by.
    flags = {name: ["--executor", name] for name in usable}
    if not has_flag(program, "--executor"):
        say("`ringfort serve --help` shows no --executor: only the executor that it has built in is measured")
        missing.update({name: "`ringfort serve` has no --executor" for name in usable[1:]})
        flags = {"compio": []}
    servers = [executor_server(name, program, words) for name, words in flags.items()]
    missing.update(drop_refused(servers))
    if not servers:
        raise BenchError("expected at least one executor that serves, found none")
    for entry in scenarios:
        entry.targets = []
        entry.servers = list(flags)
        if entry.rate and "of" in entry.rate:
            entry.rate["of"] = list(flags)
    name = "-".join(["executors"] + names)
    return run(arguments, scenarios, lambda _: servers, name, "Ringfort on each of its executors", missing)


def executor_server(name, program, words):
    spec = load_specs()["ringfort"]
    return Server(name, dict(spec, arguments=spec["arguments"] + words), program)


def has_flag(program, flag):
    ended = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, timeout=10)
    return flag in ended.stdout.split()


def drop_refused(servers):
    """Takes out the servers that do not start, with their reason: an executor may need what a host does not give."""
    refused = {}
    for server in list(servers):
        try:
            with Running(server, os.sched_getaffinity(0), 1, {}) as running:
                running.first_answer({"path": "/plaintext"})
        except BenchError as error:
            say(f"{server.name} does not start here; without it: {error}")
            refused[server.name] = str(error).replace("\n", " ")
            servers.remove(server)
    return refused


def run(arguments, scenarios, servers_of, name, title, missing):
    """Measures all scenarios, prints the verdicts and stores the results."""
    server_core, load_core = host.choose_cores(arguments.server_core, arguments.load_core)
    load_program = programs.build(programs.LOAD, "ringfort-load")
    # This program is asleep while it measures; where it wakes up, it shall not disturb the server.
    os.sched_setaffinity(0, {load_core})
    facts = describe_run(arguments, name, title, missing, server_core, load_core)
    os.sched_setaffinity(0, {server_core, load_core})
    # Whoever forwards, forwards to the first server's program, or to the sink: the same one for all.
    programs_of = {"upstream": servers_of(scenarios[0])[0].program, "sink": load_program}
    upstreams = {name: Server(name, load_specs()[name], program) for name, program in programs_of.items()}
    bench = measure.Bench(load_program, server_core, load_core, say, upstreams)
    announce(arguments, scenarios, servers_of, facts)
    for entry in scenarios:
        servers = servers_of(entry)
        for server in servers:
            facts["versions"].setdefault(server.name, server.version())
        try:
            facts["results"].append(measure.run(bench, entry, servers, entry.rounds(arguments.rounds, arguments.quick)))
        except BenchError as error:
            say(f"FAILED {error}")
            facts["failed"][entry.name] = str(error)
    judge(scenarios, facts["results"])
    return conclude(arguments, facts)


def describe_run(arguments, name, title, missing, server_core, load_core):
    return {
        "title": f"{title}, {datetime.date.today().isoformat()}",
        "date": datetime.date.today().isoformat(),
        "set": name + ("-quick" if arguments.quick else ""),
        "is_quick": arguments.quick,
        "rounds": arguments.rounds,
        "machine": host.describe(),
        "commit": programs.commit(),
        "rustc": programs.rustc(),
        "server_core": server_core,
        "load_core": load_core,
        "load_average": host.load_average(),
        "missing": missing,
        "versions": {},
        "results": [],
        "failed": {},
    }


def announce(arguments, scenarios, servers_of, facts):
    if arguments.quick:
        for entry in scenarios:
            entry.shorten()
    if facts["load_average"] > BUSY:
        say(f"the load average is {facts['load_average']:.2f}: other programs run, and the figures will be noisy")
    seconds = sum(entry.estimate(entry.rounds(arguments.rounds, arguments.quick), len(servers_of(entry)))
                  for entry in scenarios)
    say(f"{len(scenarios)} scenarios, about {seconds // 60:.0f} min {seconds % 60:.0f} s")


def judge(scenarios, results):
    """Adds the verdicts to the results, and prints them."""
    by_name = {result["name"]: result for result in results}
    for entry in scenarios:
        result = by_name.get(entry.name)
        if result is None:
            continue
        result["targets"] = []
        for target in entry.targets:
            words, verdict, why = metrics.judge(target, result, by_name)
            result["targets"].append({"target": words, "verdict": verdict, "why": why})
            say(f"{verdict:10} {entry.name}: {words}: {why}")


def conclude(arguments, facts):
    folder = arguments.out or (os.path.join(programs.target_directory(), "bench") if arguments.quick else RESULTS)
    for path in report.write(facts, folder):
        say(f"wrote {path}")
    for name, why in facts["failed"].items():
        print(f"scripts/bench: {name} failed: {why}", file=sys.stderr)
    return 1 if facts["failed"] else 0
