#!/usr/bin/env python3
"""bench_plot.py [--check]: docs/benchmarks.svg and the tables in docs/benchmarks.md, made of the records in docs/benchmarks/*.jsonl, newest
first. --check: says what differs and ends with 1.
"""
import glob
import math
import os
import sys
from xml.sax.saxutils import escape

import bench_goals
from bench_parts import PARTS
from bench_rows import number, read_record, state_of, table, title

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN, END = "<!-- made by scripts/bench_plot.py: begin -->", "<!-- made by scripts/bench_plot.py: end -->"
WIDTH, LEFT, RIGHT, LINE = 960, 400, 170, 20
LEAST, MOST = 0.25, 4.0  # of a goal: what the axis shows
STYLE = """
    text { fill: #24292f } .small { font-size: 11px } .quiet { fill: #57606a } .grid { stroke: #8c959f; stroke-opacity: .35 }
    .goal { stroke: #24292f; stroke-width: 1.5 } .pass { fill: #1a7f37; stroke: #1a7f37 } .short { fill: #bc4c00; stroke: #bc4c00 }
    .paper { fill: #fff }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .quiet { fill: #9198a1 } .goal { stroke: #e6edf3 }
      .pass { fill: #3fb950; stroke: #3fb950 } .short { fill: #f0883e; stroke: #f0883e } .paper { fill: #0d1117 }
    }
"""


def records(folder):
    """[(machine, judged rows, goals that no row answers)], newest first"""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jsonl"))):
        machine, rows = read_record(path)
        rows.sort(key=lambda r: list(PARTS).index(r["part"]))
        found.append((machine, rows, bench_goals.judge(machine["kind"], rows)))
    return sorted(found, key=lambda f: f[0]["date"], reverse=True)


# ---- the plot: each goal in a line, how much of it is reached, on a logarithmic axis ----

def x_of(reached):
    inside = min(max(reached, LEAST), MOST)
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(inside / LEAST) / math.log(MOST / LEAST)


def span_of(r):
    """(least, most) of what is reached, by the rounds' ratios"""
    factor = [r["reached"] * (s / r["ratio"]["median"] if r["goal"].startswith(">") else r["ratio"]["median"] / s)
              for s in (r["ratio"]["min"], r["ratio"]["max"])]
    return min(factor), max(factor)


def plot_row(r, y):
    kind = "short" if r["verdict"] == "short" else "pass"
    least, most = map(x_of, span_of(r))
    x = x_of(r["reached"])
    label = f"{r['part']}: {r['what']}, beside {r['beside'].split(',')[0]}"
    mark = (f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4.5"/>' if kind == "pass"
            else f'<rect class="{kind}" x="{x - 4:.1f}" y="{y - 4}" width="8" height="8"/>')
    return (f'  <text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(label)}</text>\n'
            f'  <line class="{kind}" x1="{least:.1f}" x2="{most:.1f}" y1="{y}" y2="{y}" stroke-width="2" stroke-opacity=".55"/>\n  {mark}\n'
            f'  <text x="{WIDTH - RIGHT + 12}" y="{y + 4}" class="small">{number(r["ratio"]["median"])}, <tspan class="quiet">goal {escape(r["goal"].replace("<=", "≤").replace(">=", "≥"))}</tspan></text>\n')


def axis(top, bottom):
    out = ""
    for tick in (0.25, 0.5, 1, 2, 4):
        x = x_of(tick)
        out += (f'  <line class="{"goal" if tick == 1 else "grid"}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>\n'
                f'  <text x="{x:.1f}" y="{top - 6}" text-anchor="middle" class="small quiet">{"goal" if tick == 1 else f"{tick:g}"}</text>\n')
    return out


def svg(found):
    body, y = "", 16
    for machine, rows, _ in found:
        judged = [r for r in rows if r.get("verdict")]
        body += f'  <text x="16" y="{y + 10}" font-weight="bold">{escape(title(machine))}</text>\n'
        top = y + 42
        y = top + LINE // 2
        body += axis(top, y + LINE * len(judged) - LINE // 2)
        for r in judged:
            body += plot_row(r, y)
            y += LINE
        y += 16
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12" role="img">\n'
            f'  <title>How much of each goal is reached, by machine</title>\n  <style>{STYLE}  </style>\n'
            f'  <rect class="paper" width="{WIDTH}" height="{y}"/>\n{body}</svg>\n')


# ---- the tables ----

def tables(found):
    out = []
    for machine, rows, left in found:
        judged = [r for r in rows if r.get("verdict")]
        met = sum(r["verdict"] != "short" for r in judged)
        out.append(f"### {title(machine)}\n\nGoals of: {bench_goals.KINDS[machine['kind']]}. {met} of {len(judged)} that were measured are met, {len(left)} were not measured.")
        for part in dict.fromkeys(r["part"] for r in rows):
            of_part = [r for r in rows if r["part"] == part]
            out.append(f"**{part}**{state_of(of_part)}\n\n{table(of_part)}")
    return "\n\n".join(out)


def with_tables(page, found):
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(found)}\n\n{END}{rest.split(END)[1]}"


def main():
    check, root = "--check" in sys.argv[1:], os.environ.get("BENCH_DOCS") or os.path.join(ROOT, "docs")
    found = records(os.path.join(root, "benchmarks"))
    page = os.path.join(root, "benchmarks.md")
    with open(page, encoding="utf-8") as f:
        made = {page: with_tables(f.read(), found), os.path.join(root, "benchmarks.svg"): svg(found)}
    same = True
    for path, text in made.items():
        if check:
            with open(path, encoding="utf-8") as f:
                if f.read() != text:
                    print(f"{os.path.basename(path)} is not what scripts/bench_plot.py makes of docs/benchmarks/")
                    same = False
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
