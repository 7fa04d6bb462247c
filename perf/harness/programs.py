"""Builds what is measured and what measures, with cargo, and says which commit it is."""

import json
import os
import subprocess

from . import BenchError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOAD = os.path.join(ROOT, "perf", "load")


def output(command, **options):
    """What a command prints; empty where it cannot be run."""
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


def metadata(folder):
    manifest = ["--manifest-path", f"{folder}/Cargo.toml"]
    text = output(["cargo", "metadata", "--no-deps", "--format-version", "1"] + manifest)
    if not text:
        raise BenchError(f"expected `cargo metadata` to work for {folder}/Cargo.toml, it does not: is Rust installed?")
    return json.loads(text)


def target_directory():
    return metadata(ROOT)["target_directory"]


def build(folder, program, features=()):
    """Builds a package's release binary and returns its path."""
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", f"{folder}/Cargo.toml", "--bin", program]
    if features:
        command += ["--features", ",".join(features)]
    print("$ " + " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise BenchError(f"expected {program} to build, it did not; cargo says above why")
    return os.path.join(metadata(folder)["target_directory"], "release", program)


def features():
    """The features that Ringfort's package has."""
    return set(metadata(ROOT)["packages"][0]["features"])


def commit():
    """The commit, and whether the tree differs from it."""
    name = output(["git", "rev-parse", "--short=10", "HEAD"])
    if not name:
        return "unknown (no git)"
    return name + (" with changes that are not committed" if output(["git", "status", "--porcelain"]) else "")


def rustc():
    return output(["rustc", "--version"]) or "rustc unknown"
