"""What figures are to reach, by kind of processor, and whether a row of bench_rows.py does.

A goal is of one row: its part, what is measured, and what it stands beside. Its note says where it is that of another kind of processor.
"""
KINDS = {"amx": "Intel with AMX", "zen": "AMD with AVX-512 and BF16 (Zen 4, 5)", "avx512": "AVX-512 without AMX",
         "avx2": "AVX2 without AVX-512", "other": "no AVX2"}
THREADS = ("1 thread", "2 threads")
QUIET_TILE_NS = 45  # of a turn of 2x2 tiles; 24 where the unit is quiet, 100 beside a busy hyperthread


def kind_of(cpuinfo):
    """The kind of the processor that /proc/cpuinfo describes."""
    def first(key):
        return next((l.split(":", 1)[1].strip() for l in cpuinfo.splitlines() if l.startswith(key)), "")
    flags = set(first("flags").split())
    if "amx_bf16" in flags:
        return "amx"
    if "avx512f" in flags:
        return "zen" if first("vendor_id") == "AuthenticAMD" and "avx512_bf16" in flags else "avx512"
    return "avx2" if {"avx2", "fma", "f16c"} <= flags else "other"


class Goal:
    """ratio >= limit, or with at_most ratio <= limit. Goals of one `either` are met where one of them is."""

    def __init__(self, part, what, beside, limit, note="", at_most=False, either=None):
        self.part, self.what, self.beside, self.limit, self.note = part, what, beside, limit, note
        self.at_most, self.either = at_most, either

    @property
    def key(self):
        return self.part, self.what, self.beside

    def text(self):
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"

    def met(self, ratio):
        return ratio <= self.limit if self.at_most else ratio >= self.limit

    def reached(self, ratio):
        """The share of the goal, 1 where it is just met; more is better whichever way it goes."""
        return self.limit / ratio if self.at_most else ratio / self.limit


def decode_goals(kind):
    # (format, against a read by 1 and by 2 threads, against llama.cpp)
    table = {"amx": (("bf16", (0.92, 0.90), (1.25, 1.2)), ("int8", (0.82, 0.78), (1.0, 0.95)), ("int4", (0.75, 0.70), (1.08, 1.0))),
             "zen": (("bf16", (0.95, 0.95), (1.3, 1.15)), ("int8", (0.95, 0.95), (1.45, 1.3)), ("int4", (0.90, 0.90), (1.4, 1.3)))}
    note = "" if kind in table else "of Zen"
    for name, reads, peers in table.get(kind, table["zen"]):
        for threads, of_read, of_peer in zip(THREADS, reads, peers):
            yield Goal("decode", f"{name}, {threads}", "read", of_read, note)
            yield Goal("decode", f"{name}, {threads}", "llama.cpp", of_peer, note)


def prefill_goals(kind, tile_ns):
    for tokens in (128, 512):
        def goal(name, beside, limit, note=""):
            return Goal("prefill", f"{name}, {tokens} tokens", beside, limit, note)
        if kind == "amx":
            quiet = tile_ns is None or tile_ns <= QUIET_TILE_NS
            for name in ("bf16", "int8", "int4"):
                yield goal(name, "peak", 0.40 if quiet else 0.60, "tile unit " + ("quiet" if quiet else "busy"))
            yield goal("bf16", "oneDNN", 1.0)
            yield goal("bf16", "llama.cpp", 5.0)
            yield goal("int8", "llama.cpp", 2.0)
        elif kind in ("zen", "avx512"):
            yield goal("bf16", "peak", 0.80)
            yield goal("int8", "peak", 0.60)
            yield goal("bf16", "llama.cpp", 1.45)
        else:
            for name in ("bf16", "int8", "int4"):
                yield goal(name, "peak", 0.80)
            yield goal("bf16", "llama.cpp", 1.45, "of Zen")


def goals_of(kind, tile_ns=None):
    """All goals of a kind of processor, in the order of the parts. tile_ns: a turn of 2x2 tiles at that moment, where there are tiles."""
    goals = [*decode_goals(kind), *prefill_goals(kind, tile_ns)]
    for name, cold in (("bf16", 0.95), ("int8", 0.65), ("int4", 0.45)):
        goals += [*(Goal("start", f"{name}, first step, verified, {threads}", "plain", 1.35, at_most=True) for threads in THREADS),
                  Goal("start", f"{name}, warm", "llama.cpp", 1.3, at_most=True),
                  Goal("start", f"{name}, cold", "llama.cpp", cold, at_most=True)]
    goals += [Goal("convert", "bf16 to 4 ranks", "cp", 2.5, either="convert"),
              Goal("convert", "bf16 to 4 ranks", "direct write", 0.9, either="convert"),
              Goal("convert", "anonymous memory", "128 MiB", 1.0, at_most=True),
              Goal("convert", "int8 to 4 ranks", "bf16", 1.0), Goal("convert", "int4 to 4 ranks", "bf16", 1.0),
              Goal("ranks", "decode of 2 ranks, 2 threads", "one rank", 0.98),
              Goal("ranks", "all-reduce of 8 KiB", "0.7 us or 8 handovers", 1.0, at_most=True)]
    return goals


def judge(kind, rows):
    """Gives each row that has a goal `goal`, `goal_note`, `reached` and `verdict`: "PASS" or "short". Returns the goals that no row answers."""
    goals = goals_of(kind, next((r["tile_ns"] for r in rows if r.get("tile_ns")), None))
    by_key = {(r["part"], r["what"], r["against"]): r for r in rows}
    met = {}
    for g in goals:
        row = by_key.get(g.key)
        if row and row.get("ratio"):
            met.setdefault(g.either or g.key, []).append(g.met(row["ratio"]["median"]))
    left = []
    for g in goals:
        row = by_key.get(g.key)
        if not row or not row.get("ratio"):
            left.append(g)
            continue
        ratio = row["ratio"]["median"]
        row.update(goal=g.text(), goal_note=g.note, reached=round(g.reached(ratio), 4), verdict="PASS" if g.met(ratio) else "short")
        if row["verdict"] == "short" and any(met[g.either or g.key]):
            row["verdict"] = "PASS (by the other)"
    return left
