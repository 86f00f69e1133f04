"""Rows of the benches: a figure of ours, what it stands beside, their ratio; as JSON lines and as tables.

A row: part, what, unit, ours {median, min, max}; beside (for people), against (for goals) and theirs, ratio where there is such a thing, else
`absent` says what is missing. A record is a file of JSON lines: {"machine": {...}} where a run begins, then its rows; of several rows
of one key the last counts.
"""
import json
import statistics


def spread(samples):
    return {k: float(f"{f(samples):.5g}") for k, f in (("median", statistics.median), ("min", min), ("max", max))}


def row(part, what, unit, ours, beside=None, theirs=None, against=None, note=None, absent=None):
    """ours, theirs: samples of the same rounds, in turn. theirs with another length than ours: the medians make the ratio."""
    r = {"part": part, "what": what, "unit": unit, "ours": spread(ours), "beside": beside, "against": against or beside}
    if theirs:
        paired = [a / b for a, b in zip(ours, theirs)] if len(ours) == len(theirs) else [statistics.median(ours) / statistics.median(theirs)]
        r.update(theirs=spread(theirs), ratio=spread(paired))
    if note:
        r["note"] = note
    if absent:
        r["absent"] = absent
    return r


def key_of(r):
    return r["part"], r["what"], r["against"]


def read_record(path):
    """(machine, rows): the newest row of every key, in the order in which keys first came."""
    machine, rows = {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            entry = json.loads(line)
            if "machine" in entry:
                machine = entry["machine"]
            else:
                rows[key_of(entry)] = entry
    return machine, list(rows.values())


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.095 else f"{x:.3f}"


def shown(s):
    """10.9 (10.1-11.6)"""
    least, most = number(s["min"]), number(s["max"])
    return number(s["median"]) + (f" ({least}-{most})" if least != most else "")


def state_of(rows):
    """What the machine was like while a part was measured."""
    if not rows or not all(rows[0].get("two_threads", [0])):
        return ""
    return "; before and after two threads did {} and {} times the additions of one".format(*rows[0]["two_threads"])


HEAD = "| what | ours | beside | | ratio | goal | |\n|---|--:|---|--:|--:|--:|---|"


def line(r):
    what = r["what"] + (f" ({r['note']})" if r.get("note") else "")
    theirs = shown(r["theirs"]) if "theirs" in r else ""
    ratio = f"**{r['ratio']['median']:.2f}**" if "ratio" in r else ""
    beside = r["beside"] or ""
    if r.get("absent"):
        beside += f": {r['absent']}"
    return f"| {what} | {shown(r['ours'])} {r['unit']} | {beside} | {theirs} | {ratio} | {r.get('goal', '')} | {r.get('verdict', '')} |"


def table(rows):
    return "\n".join([HEAD, *map(line, rows)])


def title(machine):
    return "{cpu}, {processors} processors, {memory_gib} GiB; {date}, {commit}".format(**machine)


def noted(note):
    return f" ({note})" if note else ""


def summary(rows, goals_left):
    """Every goal in a line: those that are met, those that are short, those of which nothing was measured."""
    judged = [r for r in rows if r.get("verdict")]
    lines = [f"{r['verdict'].split()[0]:5} {r['part']}: {r['what']}, beside {r['beside']}: {r['ratio']['median']:.2f}, goal {r['goal']}{noted(r['goal_note'])}"
             + (", by the other" if "other" in r["verdict"] else "") for r in judged]
    lines += [f"-     {g.part}: {g.what}, beside {g.beside}: not measured, goal {g.text()}{noted(g.note)}" for g in goals_left]
    passed = sum(r["verdict"] != "short" for r in judged)
    return "\n".join([*lines, f"{passed} of {len(judged)} goals that were measured are met, {len(goals_left)} were not measured"])
