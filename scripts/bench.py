#!/usr/bin/env python3
"""bench.py [PART ...]: measure on this machine, every figure beside its limit or a peer of the same run. `make bench` calls it;
`make bench only='decode ranks'` measures these parts.

  BUILD=build       programs, and build/tests/bench_*
  LLAMA=DIR         llama.cpp: a folder with llama-bench and llama-quantize; without it its rows say that it is absent
  PYTHON=python3    for the tokenizers: one that has PyPI's tokenizers, else that part is skipped
  SHARED=../shared  texts and tokenizers
  BENCH_DIR=DIR     the models, made once and kept (default BUILD/bench; 14 GB)
  RECORD=FILE       rows as JSON lines (default BUILD/bench.jsonl): a run of all parts begins it anew, one of some parts adds to it

The part `models` makes the models and measures nothing. Where a part fails the others go on, and the exit status is 1.
"""
import datetime
import json
import os
import subprocess
import sys
import time

import bench_goals
import bench_parts
import bench_programs
from bench_rows import read_record, state_of, summary, table, title

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode().strip() or "unknown"


def machine_of(kind, cpuinfo):
    fields = dict(reversed([l.split(":", 1) for l in cpuinfo.splitlines() if ":" in l]))
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": f"{fields.get('model name', 'unknown')} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})", "kind": kind,
            "processors": len(os.sched_getaffinity(0)), "memory_gib": round(memory), "date": datetime.date.today().isoformat(), "commit": commit()}


def asked_parts(names):
    known = ["models", *bench_parts.PARTS]
    for name in names:
        if name not in known:
            sys.exit(f"bench: there is no part {name}; parts: {' '.join(known)}")
    return names or known


def llama_folder():
    folder = os.environ.get("LLAMA") or None
    for name in ("llama-bench", "llama-quantize") if folder else ():
        if not os.access(os.path.join(folder, name), os.X_OK):
            sys.exit(f"bench: LLAMA={folder} has no {name}")
    return os.path.abspath(folder) if folder else None


def measure(name, bench, record):
    """The rows of a part, printed and recorded. false: it failed."""
    begin, rows, failed = time.monotonic(), [], None
    try:
        if name == "models":
            bench.models.make_all()
        else:
            before = bench.two_threads()
            for r in bench_parts.PARTS[name](bench):
                rows.append(r)
            state = [before, bench.two_threads()]
            rows = [dict(r, two_threads=state) for r in rows]
    except (bench_programs.Failed, OSError) as e:
        failed = e
    for r in rows:
        record.write(json.dumps(r) + "\n")
    record.flush()
    bench_goals.judge(bench.kind, rows)
    print(f"\n## {name}, {time.monotonic() - begin:.0f} s{state_of(rows)}\n")
    print(table(rows) if rows else "nothing measured")
    if failed:
        print(f"FAILED: {failed}")
    sys.stdout.flush()
    return not failed


def main():
    os.chdir(ROOT)
    parts, begin = asked_parts(sys.argv[1:]), time.monotonic()
    build = os.path.abspath(os.environ.get("BUILD") or "build")
    path = os.environ.get("RECORD") or os.path.join(build, "bench.jsonl")
    with open("/proc/cpuinfo") as f:
        cpuinfo = f.read()
    kind = bench_goals.kind_of(cpuinfo)
    bench = bench_programs.Bench(build, os.path.abspath(os.environ.get("BENCH_DIR") or os.path.join(build, "bench")),
                              os.environ.get("SHARED") or "../shared", llama_folder(), kind)
    machine = machine_of(kind, cpuinfo)
    print(f"# {title(machine)}")
    print(f"goals of: {bench_goals.KINDS[kind]}")
    if not bench.llama:
        print("llama.cpp is absent: LLAMA=DIR names a folder with llama-bench and llama-quantize")
    if not os.path.exists(bench.program("tests/bench_onednn")):
        print("oneDNN is absent: Debian's libdnnl-dev")
    with open(path, "a" if sys.argv[1:] else "w") as record:
        record.write(json.dumps({"machine": machine}) + "\n")
        good = [measure(name, bench, record) for name in parts]
    rows = read_record(path)[1]
    left = [g for g in bench_goals.judge(kind, rows) if g.part in parts]
    print(f"\n## goals\n\n{summary([r for r in rows if r['part'] in parts], left)}")
    print(f"\n{time.monotonic() - begin:.0f} s; recorded in {os.path.relpath(path)}; models are kept in {os.path.relpath(bench.models.folder)}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
