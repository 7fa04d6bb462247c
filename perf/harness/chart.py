"""A bar chart of a run's medians, as an SVG without anything from outside: one panel for each metric of a scenario."""

from html import escape

from . import metrics

WIDTH = 760
LABEL = 150
VALUE = 130
ROW = 24
BAR = 15
PANEL_HEAD = 40
MARGIN = 16
# The chart brings its own ground, so that it can be read on a light and on a dark page.
STYLE = """
  .ground { fill: #ffffff; } .title { fill: #1f2328; font-weight: 600; } .text { fill: #1f2328; }
  .note { fill: #59636e; }
  .base { fill: #0969da; } .peer { fill: #8c959f; } .least { stroke: #1f2328; stroke-width: 2; }
  text { font: 13px system-ui, sans-serif; } .note { font-size: 12px; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } .title, .text { fill: #e6edf3; } .note { fill: #9198a1; }
    .base { fill: #4493f8; } .peer { fill: #6e7681; } .least { stroke: #e6edf3; }
  }
"""


def text(x, y, kind, words, anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def panel(result, key, top):
    """The bars of one metric; returns the elements and the height."""
    metric = metrics.METRICS[key]
    summaries = {name: server["summary"][key] for name, server in result["servers"].items()}
    longest = max(summary["median"] for summary in summaries.values()) or 1
    room = WIDTH - 2 * MARGIN - LABEL - VALUE
    parts = [text(MARGIN, top + 16, "title", result["title"]),
             text(MARGIN, top + 32, "note", f"{metric.name}, {metric.unit}; less is better")]
    for row, (name, summary) in enumerate(summaries.items()):
        y = top + PANEL_HEAD + row * ROW
        kind = "base" if name == result["base"] else "peer"
        length = max(1.0, room * summary["median"] / longest)
        least = MARGIN + LABEL + room * summary["min"] / longest
        parts.append(text(MARGIN + LABEL - 8, y + 12, "text", name, "end"))
        parts.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" class="{kind}"/>')
        parts.append(f'<line x1="{least:.1f}" x2="{least:.1f}" y1="{y - 2}" y2="{y + BAR + 2}" class="least"/>')
        ratio = result["ratios"][key].get(name)
        times = f"  ({1 / ratio['median']:.2f} ×)" if ratio and ratio["median"] else ""
        parts.append(text(MARGIN + LABEL + length + 8, y + 12, "text", metric.show(summary["median"]) + times))
    return parts, PANEL_HEAD + len(summaries) * ROW + MARGIN


def draw(results):
    """The whole chart."""
    top, parts = MARGIN, []
    for result in results:
        for key in metrics.MEASURES[result["measure"]]["drawn"]:
            drawn, height = panel(result, key, top)
            parts += drawn
            top += height
    legend = "Bars are medians, strokes are minimums, (×) is the median by the first row's."
    parts.append(text(MARGIN, top + 8, "note", legend))
    height = top + MARGIN + 8
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" aria-label="Medians of each scenario and server">')
    ground = f'<rect width="{WIDTH}" height="{height}" class="ground"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", ground] + parts + ["</svg>"]) + "\n"
