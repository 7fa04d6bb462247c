"""The machine: cores, CPU time and memory of processes, free ports, and what a result has to say about the host."""

import os
import platform
import resource
import socket
import time

from . import BenchError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def choose_cores(server, load):
    """The core of the server and the core of the load: as asked for, or the first two that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError(f"expected two cores, one for the server and one for the load; this process may use {allowed}")
    server = allowed[0] if server is None else server
    load = next(core for core in allowed if core != server) if load is None else load
    if server == load or not {server, load} <= set(allowed):
        raise BenchError(f"expected two different cores of {allowed}, found {server} and {load}")
    return server, load


def raise_open_files():
    """Raises the limit on open files as far as it goes; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port():
    """A TCP port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parents():
    """The parent of every process."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        stat = read_text(f"/proc/{name}/stat")
        if stat:
            found[int(name)] = int(stat.rsplit(")", 1)[1].split()[1])
    return found


def family(pid):
    """A process and all its descendants."""
    parent_of = parents()
    found = [pid]
    for member in found:
        found += [child for child, parent in parent_of.items() if parent == member]
    return found


def process_cpu_seconds(pid):
    """User and system time of all threads of a process, ended ones included, to the nanosecond."""
    # The clock that clock_getcpuclockid(3) gives for another process: it counts what /proc/PID/stat counts in ticks.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        fields = read_text(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
        if len(fields) < 13:
            raise BenchError(f"expected a running process {pid}, found none") from None
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def cpu_seconds(pids):
    return sum(process_cpu_seconds(pid) for pid in pids)


def resident_bytes(pids):
    """Resident memory of processes. Pages that they share count in each."""
    return sum(process_resident_bytes(pid) for pid in pids)


def process_resident_bytes(pid):
    # The rollup walks the page tables; the counter in `status` may be some hundred KiB off, by core.
    for path, name in ((f"/proc/{pid}/smaps_rollup", "Rss:"), (f"/proc/{pid}/status", "VmRSS:")):
        for line in read_text(path).splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise BenchError(f"expected the memory of process {pid} in /proc, found nothing")


def core_seconds(core):
    """Busy and stolen time of one core since boot."""
    for line in read_text("/proc/stat").splitlines():
        fields = line.split()
        if fields[0] == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[1:9])
            return (user + nice + system + irq + softirq) / TICKS_PER_SECOND, steal / TICKS_PER_SECOND
    raise BenchError(f"expected core {core} in /proc/stat, found none")


def load_average():
    return os.getloadavg()[0]


def describe():
    """What a reader has to know of the machine."""
    cpuinfo = read_text("/proc/cpuinfo")
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    meminfo = read_text("/proc/meminfo").splitlines()
    memory = next((line.split()[1] for line in meminfo if line.startswith("MemTotal")), 0)
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "virtual": " hypervisor" in cpuinfo,
        "memory_gib": round(int(memory) / 1024 / 1024, 1),
        "kernel": platform.release(),
        "governor": governor or None,
    }
