"""What is measured, how it is called and summed up, and whether it meets a target; without I/O."""

import statistics


class Metric:
    """One number of a round."""

    def __init__(self, name, unit, digits):
        self.name = name
        self.unit = unit
        self.digits = digits

    def show(self, value):
        return f"{value:,.{self.digits}f}"


METRICS = {
    "cpu_us": Metric("server CPU per request", "µs", 2),
    "rate": Metric("requests per second", "1/s", 0),
    "p50_us": Metric("P50", "µs", 0),
    "p90_us": Metric("P90", "µs", 0),
    "p99_us": Metric("P99", "µs", 0),
    "p999_us": Metric("P99.9", "µs", 0),
    "max_us": Metric("longest", "µs", 0),
    "lag_p999_us": Metric("load generator late, P99.9", "µs", 0),
    "connection_kib": Metric("resident memory per connection", "KiB", 2),
    "start_ms": Metric("start to first answer", "ms", 1),
    "rss_mib": Metric("resident memory", "MiB", 1),
    "failed": Metric("requests that failed", "requests", 0),
    "answered": Metric("requests answered", "requests", 0),
    "drains": Metric("servers drained and undrained", "times", 0),
    "idle_cpu_ms": Metric("CPU per second at rest", "ms", 3),
}

# For each kind of scenario: the metrics that are compared, the first being drawn unless said otherwise, and those that
# are shown beside them and decide nothing.
MEASURES = {
    "cost": {"compared": ["cpu_us"], "drawn": ["cpu_us"], "shown": ["rate", "p50_us", "p99_us", "rss_mib"]},
    "latency": {
        "compared": ["p50_us", "p90_us", "p99_us", "p999_us"],
        "drawn": ["p50_us", "p999_us"],
        "shown": ["max_us", "cpu_us", "rate", "lag_p999_us"],
    },
    "drain": {
        "compared": ["failed", "p999_us"],
        "drawn": ["p999_us"],
        "shown": ["answered", "drains", "p50_us", "max_us", "lag_p999_us"],
    },
    "memory": {"compared": ["connection_kib"], "drawn": ["connection_kib"], "shown": ["rss_mib"]},
    "rest": {
        "compared": ["start_ms", "rss_mib", "idle_cpu_ms"],
        "drawn": ["start_ms", "rss_mib", "idle_cpu_ms"],
        "shown": [],
    },
}

# What a verdict needs.
NAMES = {"min": "minimum", "median": "median"}


def summarize(values):
    """Minimum, median and noise of one metric over the rounds."""
    median = statistics.median(values)
    spread = (max(values) - min(values)) / median if median else 0.0
    return {"min": min(values), "median": median, "max": max(values), "spread": spread}


def divide(one, other):
    return one / other if other else None


def compare(base, other):
    """The base's values by another's, round by round in the same order: below 1 the base is better."""
    pairs = [ratio for ratio in map(divide, base, other) if ratio is not None]
    return {
        "min": divide(min(base), min(other)),
        "median": divide(statistics.median(base), statistics.median(other)),
        "paired": statistics.median(pairs) if pairs else None,
    }


def show_ratio(ratio):
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def judge(target, result, results):
    """PASS, MISS or `not judged` for one target, and why. `results` has the scenarios of this run by name."""
    metric = METRICS[target["metric"]]
    if "max" in target:
        return judge_limit(target, metric, result)
    peer = target["versus"]
    ratios = result["ratios"].get(target["metric"], {}).get(peer)
    text = f"{metric.name} at most {target.get('ratio_max', '?')} × {peer}"
    if "no_worse_than" in target:
        text = f"{metric.name}, as a ratio to {peer}, no worse than in {target['no_worse_than']}"
    if ratios is None or None in ratios.values():
        return text, "not judged", f"{peer} was not measured"
    if "no_worse_than" not in target:
        return text, *judge_ratio(ratios, {"min": target["ratio_max"], "median": target["ratio_max"]})
    other = results.get(target["no_worse_than"], {}).get("ratios", {}).get(target["metric"], {}).get(peer)
    if other is None:
        return text, "not judged", f"{target['no_worse_than']} was not measured in this run"
    tolerance = target.get("tolerance", 0)
    text += f" (a difference of {tolerance:.0%} is noise)"
    return text, *judge_ratio(ratios, {key: other[key] * (1 + tolerance) for key in NAMES})


def judge_limit(target, metric, result):
    aim = f", aim {target['aim']}" if "aim" in target else ""
    text = f"{metric.name} at most {target['max']} {metric.unit}{aim}"
    found = result["servers"][result["base"]]["summary"][target["metric"]]["median"]
    return text, "PASS" if found <= target["max"] else "MISS", f"median {metric.show(found)} {metric.unit}"


def judge_ratio(ratios, limits):
    """The minimum is the steadier figure and the median the fairer one: a target is met when both meet it."""
    verdict = "PASS" if all(ratios[key] <= limits[key] for key in NAMES) else "MISS"
    words = (f"{name} {ratios[key]:.3f} of {limits[key]:.3f}" for key, name in NAMES.items())
    return verdict, ", ".join(words)
