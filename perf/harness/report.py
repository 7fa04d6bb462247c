"""Writes a run's results: Markdown for people, JSON for programs, and the chart's place between them."""

import json
import os

from . import chart, metrics


def percent(part):
    return f"{part * 100:.0f} %"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def conditions(run):
    """Machine, commit, programs and how it was measured."""
    machine = run["machine"]
    kind = "virtual machine, " if machine["virtual"] else ""
    governor = f", governor {machine['governor']}" if machine["governor"] else ""
    lines = [
        f"- Machine: {kind}{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB{governor}; "
        f"Linux {machine['kernel']}, loopback.",
        f"- Commit {run['commit']}; {run['rustc']}.",
        "- Servers: " + "; ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".",
        f"- Server on core {run['server_core']}, load on core {run['load_core']} (`perf/load`), in turns; at most "
        f"{run['rounds']} rounds. Load average before: {run['load_average']:.2f}.",
        "- CPU is user and system time of all threads of all the server's processes, from their CPU clocks.",
    ]
    lines += [f"- Not measured: {name} ({why})." for name, why in run["missing"].items()]
    if run["is_quick"]:
        lines.append("- **Run with `--quick`: shows that everything runs, and is no result.**")
    return lines


def noise_line(result):
    """How much to trust the figures."""
    noises = [entry["noise"] for server in result["servers"].values() for entry in server["rounds"] if "noise" in entry]
    if not noises:
        return []
    foreign, stolen = (max(noise[key] for noise in noises) for key in ("foreign", "stolen"))
    return [
        f"Noise: in the worst round other work took {percent(foreign)} of the server's core, and the hypervisor "
        f"{percent(stolen)}."
    ]


def compared_table(result):
    base = result["base"]
    head = ["metric", "server", "minimum", "median", "spread", f"{base} ÷ it, minimum", "median", "median of pairs"]
    rows = []
    for key in metrics.MEASURES[result["measure"]]["compared"]:
        metric = metrics.METRICS[key]
        for name, server in result["servers"].items():
            summary = server["summary"][key]
            row = [f"{metric.name}, {metric.unit}", name, metric.show(summary["min"]), metric.show(summary["median"])]
            row.append(percent(summary["spread"]))
            ratios = result["ratios"][key].get(name)
            row += [metrics.show_ratio(ratios[part]) if ratios else "" for part in ("min", "median", "paired")]
            rows.append(row)
    return table(head, rows)


def shown_table(result):
    """Medians that decide nothing."""
    keys = [key for key in metrics.MEASURES[result["measure"]]["shown"]
            if all(key in server["summary"] for server in result["servers"].values())]
    head = ["server"] + [f"{metrics.METRICS[key].name}, {metrics.METRICS[key].unit}" for key in keys]
    head += ["bytes of an answer", "fields"]
    rows = []
    for name, server in result["servers"].items():
        row = [name] + [metrics.METRICS[key].show(server["summary"][key]["median"]) for key in keys]
        rows.append(row + [str(server["answer_bytes"]), str(len(server["fields"]))])
    return table(head, rows)


def rate_line(result):
    if not result["rate"]:
        return []
    if "maxima" not in result["rate"]:
        return [f"Rate: {result['rate']['rate']:,} requests a second for each server, as the scenario says."]
    maxima = ", ".join(f"{name} {rate:,.0f}" for name, rate in result["rate"]["maxima"].items())
    return [f"Rate: {result['rate']['rate']:,} requests a second for each server; maxima in this run: {maxima}."]


def targets_table(result):
    if not result["targets"]:
        return []
    rows = [[entry["target"], entry["verdict"], entry["why"]] for entry in result["targets"]]
    return table(["target", "verdict", "found"], rows)


def section(result):
    """One scenario."""
    lines = [f"## {result['title']}", "", f"`{result['name']}`: {result['settings']}; "
             f"{len(next(iter(result['servers'].values()))['rounds'])} rounds."]
    before = rate_line(result) + noise_line(result)
    for part in (before, compared_table(result), shown_table(result), targets_table(result)):
        if part:
            lines += [""] + part
    return lines


def failed_section(name, why):
    return [f"## {name}: failed", "", why]


def to_markdown(run, picture):
    lines = [f"# {run['title']}", ""] + conditions(run)
    if run["results"]:
        lines += ["", f"![Medians, as in the tables below]({picture})", ""]
        lines += ["Ratios below 1 are in favour of the first server. Spread is (maximum - minimum) / median over the "
                  "rounds; a ratio that is nearer to 1 than the spreads means nothing. The second table of a scenario "
                  "has medians."]
    for result in run["results"]:
        lines += [""] + section(result)
    for name, why in run["failed"].items():
        lines += [""] + failed_section(name, why)
    return "\n".join(lines) + "\n"


def free_name(folder, name):
    """A name under which nothing is stored yet: results are kept, also those of the same day."""
    number, free = 1, name
    while any(os.path.exists(os.path.join(folder, free + ending)) for ending in (".md", ".json", ".svg")):
        number += 1
        free = f"{name}-{number}"
    return free


def write(run, folder):
    """Stores the three files; returns their paths."""
    os.makedirs(folder, exist_ok=True)
    name = free_name(folder, f"{run['date']}-{run['set']}")
    texts = {".md": to_markdown(run, name + ".svg"), ".json": json.dumps(run, indent=1, ensure_ascii=False) + "\n"}
    if run["results"]:
        texts[".svg"] = chart.draw(run["results"])
    paths = []
    for ending, text in texts.items():
        paths.append(os.path.join(folder, name + ending))
        with open(paths[-1], "w", encoding="utf-8") as file:
            file.write(text)
    return paths
