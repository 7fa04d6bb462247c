"""Processes that this program starts, and ends again: each by its id, and no others."""

import ctypes
import os
import signal
import subprocess

from . import host

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
STOP_SECONDS = 5


def start(command, cores, **options):
    """Starts a process on the given cores; the kernel ends it if this program dies."""

    def prepare():
        os.sched_setaffinity(0, cores)
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    return subprocess.Popen(command, preexec_fn=prepare, start_new_session=True, **options)


def stop(process):
    """Ends a process and its descendants; waits until they are gone."""
    if process.poll() is not None:
        return
    members = host.family(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in members:
            kill(pid)
        process.wait()


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
