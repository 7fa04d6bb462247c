"""Tests of the harness: `python3 -m unittest discover -s perf/harness -t perf -p tests.py`."""

import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.dom.minidom

from . import BenchError, chart, drains, host, metrics, processes, report, scenario, servers


def result(name="one", base=(8.0, 9.0), peer=(10.0, 10.0)):
    """A result of kind `cost` with a base and one peer."""
    columns = {"ringfort": list(base), "nginx": list(peer)}
    return {
        "name": name, "title": "One & <two>", "measure": "cost", "settings": "64 connections", "rate": None,
        "base": "ringfort", "targets": [],
        "servers": {key: {"answer_bytes": 154, "fields": ["Date"], "rounds": [{"cpu_us": value} for value in values],
                          "summary": {"cpu_us": metrics.summarize(values)}} for key, values in columns.items()},
        "ratios": {"cpu_us": {"nginx": metrics.compare(columns["ringfort"], columns["nginx"])}},
    }


def a_run(results):
    return {
        "title": "Title", "date": "2026-01-01", "set": "all", "is_quick": True, "rounds": 5, "commit": "abc",
        "rustc": "rustc 1", "machine": host.describe(), "server_core": 0, "load_core": 1, "load_average": 0.1,
        "missing": {"haproxy": "apt-get install haproxy"}, "versions": {"nginx": "1.22"}, "results": results,
        "failed": {"two": "expected no errors, found 3"},
    }


class Judging(unittest.TestCase):
    LIMIT = {"metric": "cpu_us", "versus": "nginx", "ratio_max": 0.9}

    def verdict(self, target, found, others=()):
        return metrics.judge(target, found, {other["name"]: other for other in others})[1]

    def test_noise_is_the_spread_by_the_median(self):
        self.assertEqual(metrics.summarize([8, 10, 13]), {"min": 8, "median": 10, "max": 13, "spread": 0.5})

    def test_pairs_are_compared_round_by_round(self):
        # The machine became half as fast after the first round; the pairs do not see it.
        ratios = metrics.compare([4, 8, 8.4], [5, 10, 10])
        self.assertAlmostEqual(ratios["paired"], 0.8)
        self.assertAlmostEqual(ratios["min"], 0.8)

    def test_nothing_is_divided_by_zero(self):
        self.assertEqual(metrics.compare([1], [0]), {"min": None, "median": None, "paired": None})
        self.assertEqual(metrics.show_ratio(None), "–")

    def test_ratio_target_needs_the_minimum_and_the_median(self):
        self.assertEqual(self.verdict(self.LIMIT, result(base=(8, 9))), "PASS")
        self.assertEqual(self.verdict(self.LIMIT, result(base=(8, 10.5))), "MISS")
        self.assertEqual(self.verdict(self.LIMIT, result(base=(9.5, 9.5))), "MISS")

    def test_limit_is_judged_by_the_base(self):
        self.assertEqual(self.verdict({"metric": "cpu_us", "max": 8.5}, result(base=(8, 9))), "PASS")
        self.assertEqual(self.verdict({"metric": "cpu_us", "max": 8.4}, result(base=(8, 9))), "MISS")

    def test_ratio_is_compared_with_another_scenario(self):
        target = {"metric": "cpu_us", "versus": "nginx", "no_worse_than": "one", "tolerance": 0.02}
        one = result(base=(8, 8))
        self.assertEqual(self.verdict(target, result("two", base=(8.1, 8.1)), [one]), "PASS")
        self.assertEqual(self.verdict(target, result("two", base=(8.3, 8.3)), [one]), "MISS")
        self.assertEqual(self.verdict(target, result("two"), []), "not judged")

    def test_missing_peer_is_not_judged(self):
        found = result()
        found["ratios"] = {"cpu_us": {}}
        self.assertEqual(self.verdict(self.LIMIT, found), "not judged")


class Scenarios(unittest.TestCase):
    def test_stored_ones_are_valid_and_name_known_servers(self):
        found = scenario.load_all()
        self.assertGreaterEqual(len(found), 8)
        known = servers.load_specs()
        for entry in found:
            self.assertLessEqual(set(entry.servers), set(known), entry.name)
            self.assertIn(entry.upstream, [None, "upstream", "sink"], entry.name)
            for target in entry.targets:
                self.assertIn(target.get("no_worse_than", entry.name), [other.name for other in found])

    def test_mistakes_are_named(self):
        with open(os.path.join(scenario.FOLDER, "keep-alive-64.json"), encoding="utf-8") as file:
            good = json.load(file)
        for change, words in [({"seconds": "2"}, "expected seconds"), ({"colour": 1}, "expected a known key"),
                              ({"measure": "speed"}, "expected measure to be one of"),
                              ({"measure": "drain", "rate": {"fixed": 1, "of": []}}, "expected a rate with keys"),
                              ({"upstream_servers": 251, "upstream": "sink"}, "expected upstream_servers of 0 to 250"),
                              ({"upstream_servers": 1}, "expected an upstream where"),
                              ({"targets": [{"metric": "cpu_us"}]}, "expected a target with keys")]:
            with self.assertRaisesRegex(BenchError, words):
                scenario.Scenario("x", dict(good, **change))

    def test_unknown_name_lists_the_known(self):
        with self.assertRaisesRegex(BenchError, "keep-alive-64.*found keep-alive"):
            scenario.choose(["keep-alive"])


class Templates(unittest.TestCase):
    def test_values_are_filled_in_and_a_missing_one_is_named(self):
        self.assertEqual(servers.fill("listen 127.0.0.1:@PORT@;", {"PORT": 80}), "listen 127.0.0.1:80;")
        with self.assertRaisesRegex(BenchError, "@PROT@"):
            servers.fill("@PROT@", {"PORT": 80})

    def test_each_upstream_server_is_named_in_each_config(self):
        places = servers.addresses(3, 80)
        self.assertEqual(places, ["127.0.1.1:80", "127.0.1.2:80", "127.0.1.3:80"])
        specs = servers.load_specs()
        for name, words in [("nginx", "server 127.0.1.3:80;"), ("haproxy", "server s2 127.0.1.3:80 "),
                            ("ringfort", '{ "address": "127.0.1.3:80" }')]:
            text = servers.repeat(specs[name], "servers", places)
            self.assertEqual(text.count("127.0.1."), 3)
            self.assertIn(words, text)
        self.assertEqual(servers.repeat(specs["upstream"], "more", places[:2]), ', "127.0.1.1:80", "127.0.1.2:80"')
        self.assertEqual(servers.repeat(specs["upstream"], "more", []), "")

    def test_answer_is_taken_apart(self):
        answer = servers.Answer(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2", b"hi")
        self.assertEqual((answer.status, list(answer.fields), answer.size),
                         ("HTTP/1.1 200 OK", ["Date", "Content-Length"], 49))


class Host(unittest.TestCase):
    def test_cpu_of_threads_that_ended_is_counted(self):
        code = ("import threading, time\n"
                "def spin():\n    end = time.thread_time() + 0.1\n    while time.thread_time() < end: pass\n"
                "before = time.process_time()\n"
                "threads = [threading.Thread(target=spin) for _ in range(3)]\n"
                "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
                "print(time.process_time(), flush=True)\ntime.sleep(60)\n")
        process = processes.start([sys.executable, "-c", code], os.sched_getaffinity(0), stdout=subprocess.PIPE)
        try:
            said = float(process.stdout.readline())
            seen = host.process_cpu_seconds(process.pid)
            self.assertGreater(seen, 0.3)
            self.assertAlmostEqual(seen, said, delta=0.1)
            self.assertGreater(host.process_resident_bytes(process.pid), 1 << 20)
        finally:
            processes.stop(process)
            process.stdout.close()

    def test_stop_ends_descendants_that_refuse(self):
        code = ("import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
                "print(child.pid, flush=True)\ntime.sleep(60)\n")
        process = processes.start([sys.executable, "-c", code], os.sched_getaffinity(0), stdout=subprocess.PIPE)
        child = int(process.stdout.readline())
        process.stdout.close()
        self.assertIn(child, host.family(process.pid))
        usual, processes.STOP_SECONDS = processes.STOP_SECONDS, 0.2
        try:
            processes.stop(process)
        finally:
            processes.STOP_SECONDS = usual
        self.assertEqual(process.returncode, -signal.SIGKILL)
        deadline = time.monotonic() + 10
        # An orphan that init does not collect stays as a zombie.
        def state():
            return host.read_text(f"/proc/{child}/stat").partition(") ")[2][:1]

        while state() not in ("", "Z") and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertLess(time.monotonic(), deadline)

    def test_cores_are_two_different_ones_that_are_allowed(self):
        with self.assertRaisesRegex(BenchError, "expected two"):
            host.choose_cores(0, 0)


class Admin(http.server.BaseHTTPRequestHandler):
    """An admin listener with servers that can be drained; it refuses what would change nothing."""

    drained = [False, False]
    posts = []

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer({"upstreams": [{"name": "up", "servers": [{"in_flight": 0}] * len(self.drained)}]})

    def do_POST(self):
        _, _, upstream, _, number, what = self.path.split("/")
        self.posts.append((upstream, int(number), what))
        before, self.drained[int(number)] = self.drained[int(number)], what == "drain"
        now = self.drained[int(number)]
        self.answer({"changed": before != now, "server": {"drained": now}})

    def log_message(self, *_):
        pass


class Draining(unittest.TestCase):
    def setUp(self):
        self.admin = http.server.HTTPServer(("127.0.0.1", 0), Admin)
        self.addCleanup(self.admin.server_close)
        Admin.drained, Admin.posts = [False, False], []
        thread = threading.Thread(target=self.admin.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(self.admin.shutdown)

    def test_one_server_at_a_time_is_drained_and_in_the_end_none(self):
        with drains.Drains(self.admin.server_port, 2) as draining:
            deadline = time.monotonic() + 10
            while draining.done < 3 and time.monotonic() < deadline:
                time.sleep(0.001)
        self.assertEqual(Admin.drained, [False, False])
        self.assertEqual(Admin.posts[:4], [("up", number, what) for number in (0, 1) for what in ("drain", "undrain")])
        self.assertEqual(len(Admin.posts), 2 * draining.done)

    def test_what_the_admin_listener_refuses_ends_the_round(self):
        Admin.drained[0] = True
        with self.assertRaisesRegex(BenchError, "expected server 0 to be changed by drain"):
            with drains.Drains(self.admin.server_port, 2) as draining:
                draining._thread.join(10)


class Reports(unittest.TestCase):
    def test_all_is_written_and_nothing_is_overwritten(self):
        found = result()
        found["targets"] = [{"target": "cpu", "verdict": "MISS", "why": "0.95 of 0.93"}]
        with tempfile.TemporaryDirectory() as folder:
            first = report.write(a_run([found]), folder)
            second = report.write(a_run([found]), folder)
            self.assertEqual(len(os.listdir(folder)), 6)
            self.assertNotEqual(first, second)
            with open(first[0], encoding="utf-8") as file:
                text = file.read()
        for words in ("| MISS |", "apt-get install haproxy", "--quick", "## two: failed", "0.80", "Commit abc"):
            self.assertIn(words, text)

    def test_chart_is_well_formed(self):
        tree = xml.dom.minidom.parseString(chart.draw([result(), result("two")]))
        self.assertEqual(len(tree.getElementsByTagName("rect")), 1 + 4)

    def test_run_in_which_all_failed_is_reported_without_a_chart(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(len(report.write(a_run([]), folder)), 2)


if __name__ == "__main__":
    unittest.main()
