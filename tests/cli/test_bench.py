#!/usr/bin/env python3
"""`make bench`: what it says of figures that are made up here, and that docs/ shows what is recorded there. Nothing is measured."""
import json
import os
import re
import shutil
import sys
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import ROOT, run

SCRIPTS = os.path.join(ROOT, "scripts")
sys.dont_write_bytecode = True
sys.path.insert(0, SCRIPTS)
import bench_goals
import bench_models
import bench_plot
from bench_programs import rounds
from bench_rows import read_record, row, summary, table

AMX = "vendor_id : GenuineIntel\nflags : fma avx2 f16c avx512f avx512_bf16 amx_bf16 amx_tile\n"
ZEN = "vendor_id : AuthenticAMD\nflags : fma avx2 f16c avx512f avx512_bf16\n"


def judged(kind, *rows):
    left = bench_goals.judge(kind, rows)
    return [r.get("verdict") for r in rows], left


def test_goals_are_those_of_the_processor():
    kinds = {AMX: "amx", ZEN: "zen", ZEN.replace("avx512_bf16", ""): "avx512", AMX.replace("amx_bf16", ""): "avx512",
             "flags : fma avx2 f16c\n": "avx2", "flags : sse2\n": "other", "": "other"}
    assert {text: bench_goals.kind_of(text) for text in kinds} == kinds

    def limit(kind, *key, tile_ns=None):
        return [(g.limit, g.at_most) for g in bench_goals.goals_of(kind, tile_ns) if g.key == key]
    assert limit("amx", "decode", "int8, 2 threads", "read") == [(0.78, False)]
    assert limit("zen", "decode", "int4, 1 thread", "read") == [(0.90, False)]
    assert limit("avx2", "decode", "int4, 2 threads", "llama.cpp") == [(1.3, False)]
    assert {g.note for g in bench_goals.goals_of("zen")} == {""} and "of Zen" in {g.note for g in bench_goals.goals_of("avx2")}
    assert limit("amx", "prefill", "bf16, 512 tokens", "peak", tile_ns=24) == [(0.40, False)]
    assert limit("amx", "prefill", "bf16, 512 tokens", "peak", tile_ns=100) == [(0.60, False)]
    assert limit("zen", "prefill", "int8, 128 tokens", "peak") == [(0.60, False)]
    assert limit("avx2", "start", "int8, cold", "llama.cpp") == [(0.65, True)]
    for kind in bench_goals.KINDS:
        goals = bench_goals.goals_of(kind)
        assert len({g.key for g in goals}) == len(goals)


def test_a_row_passes_where_the_median_of_its_ratios_does():
    enough = row("decode", "bf16, 1 thread", "GB/s", [9, 9.5, 12], "read", [10, 10, 10])
    short = row("decode", "bf16, 2 threads", "GB/s", [9, 9.4, 12], "read", [10, 10, 10])
    quick = row("ranks", "all-reduce of 8 KiB", "us", [0.6, 0.7, 9], "0.7 us or 8 handovers", [0.7] * 3)
    slow = row("start", "bf16, warm", "s", [1.4, 1.4], "llama.cpp bf16", [1.0, 1.0], "llama.cpp")
    free = row("batch", "bf16, 2 sequences, 2 threads", "tok/s", [2], "one sequence", [1])
    assert judged("avx2", enough, short, quick, slow, free)[0] == ["PASS", "short", "PASS", "short", None]
    assert enough["ratio"]["median"] == 0.95 and quick["goal"] == "<= 1" and abs(slow["reached"] - 1.3 / 1.4) < 1e-3


def test_one_of_two_ways_is_enough():
    def convert(cp, write):
        return (row("convert", "bf16 to 4 ranks", "GB/s", [1.0], "cp + sync", [1 / cp], "cp"),
                row("convert", "bf16 to 4 ranks", "GB/s", [1.0], "direct write", [1 / write]))
    assert judged("zen", *convert(2.6, 0.95))[0] == ["PASS", "PASS"]
    assert judged("zen", *convert(1.2, 0.95))[0] == ["PASS (by the other)", "PASS"]
    assert judged("zen", *convert(2.6, 0.5))[0] == ["PASS", "PASS (by the other)"]
    assert judged("zen", *convert(1.2, 0.5))[0] == ["short", "short"]
    assert judged("zen", convert(1.2, 0.5)[0])[0] == ["short"]


def test_a_goal_whose_peer_is_absent_is_not_measured():
    absent = row("decode", "bf16, 1 thread", "tok/s", [5], "llama.cpp bf16", None, "llama.cpp", absent="absent (LLAMA=DIR)")
    verdicts, left = judged("zen", absent)
    assert verdicts == [None] and ("decode", "bf16, 1 thread", "llama.cpp") in [g.key for g in left]
    assert len(left) == len(bench_goals.goals_of("zen"))
    assert "| llama.cpp bf16: absent (LLAMA=DIR) |" in table([absent])
    lines = summary([absent], left).splitlines()
    assert len(lines) == len(left) + 1 and "-     decode: bf16, 1 thread, beside llama.cpp: not measured, goal >= 1.3" in lines
    assert lines[-1] == f"0 of 0 goals that were measured are met, {len(left)} were not measured"


def fake_program(folder, name, lines):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("#!/bin/sh\ncat <<'E'\n" + "\n".join(json.dumps(l) for l in lines) + "\nE\n")
    os.chmod(path, 0o755)


def sample(what, *samples):
    return {"what": what, "unit": "", "median": 0, "samples": samples}


def fake_build(folder):
    sizes = [sample(f"{what} {kib} KiB", us, us, us) for kib in (4, 8, 16, 32, 64) for what, us in (("all-reduce", 0.8), ("phase", 1.5), ("alone", 1.0))]
    fake_program(folder, "tests/bench_allreduce", [sample("handover", 0.05, 0.05, 0.05), sample("meeting", 0.1, 0.1, 0.1), *sizes])
    fake_program(folder, "tests/bench_decode", [sample("decode, 2 threads, batch 1", 10, 10, 10)])
    fake_program(folder, "tests/bench_sampler", [sample("exp, sigma 1", 0.02), sample("greedy, sigma 1", 0.01)])
    fake_program(folder, "tests/bench_limits", [sample(f"{name}, {n}", rate, rate, rate) for name in ("FMA 256", "TDPBF16PS 2x2", "read plain")
                                                for n, rate in (("1 thread", 100), ("2 threads", 150))])
    for name in ("model", "bf16-1", "bf16-2"):
        os.makedirs(f"{folder}/bench/{name}")


def bench(folder, *parts, status=0, **environment):
    return run([os.path.join(SCRIPTS, "bench.py"), *parts], status, env={**os.environ, "BUILD": folder, "LLAMA": "", "PYTHONDONTWRITEBYTECODE": "1", **environment})


def test_a_run_prints_rows_and_goals_and_records_them(folder):
    fake_build(folder)
    text = bench(folder, "ranks", "sampler").stdout.decode()
    assert re.search(r"\| all-reduce of 8 KiB \| 0.80 us \| 0.7 us or 8 handovers \| 0.70 \| \*\*1.14\*\* \| <= 1 \| short \|", text), text
    assert re.search(r"\| decode of 2 ranks, 2 threads \| 10.0 tok/s \| one rank \| 10.0 \| \*\*1.00\*\* \| >= 0.98 \| PASS \|", text), text
    assert re.search(r"\| greedy, logits of sigma 1 \| 0.010 ms \| exp of as many \| 0.020 \| \*\*0.50\*\* \|  \|  \|", text), text
    assert re.search(r"## ranks, \d+ s; before and after two threads did 1.5 and 1.5 times the additions of one\n", text), text
    assert "PASS  ranks: decode of 2 ranks, 2 threads, beside one rank: 1.00, goal >= 0.98" in text
    assert "short ranks: all-reduce of 8 KiB" in text and "1 of 2 goals that were measured are met" in text
    machine, rows = read_record(f"{folder}/bench.jsonl")
    assert machine["kind"] in bench_goals.KINDS and len(rows) == 14, len(rows)
    fake_program(folder, "tests/bench_sampler", [sample("exp, sigma 1", 0.02), sample("greedy, sigma 1", 0.04)])
    bench(folder, "sampler")
    again = read_record(f"{folder}/bench.jsonl")[1]
    assert len(again) == 14 and [r["ratio"]["median"] for r in again if r["part"] == "sampler"] == [2.0]


def test_peers_stand_beside_ours_where_they_are(folder):
    fake_build(folder)
    lines = [sample(f"{what}, {n}", rate, rate, rate) for n in ("1 thread", "2 threads")
             for what, rate in (("read", 10), ("weights", 9.6), ("decode", 12), ("prompt", 48))]
    fake_program(folder, "tests/bench_decode", [dict(l, what=l["what"] + ", batch 1") if l["what"].startswith("decode") else l for l in lines])
    fake_program(folder, "tests/bench_onednn", [sample("f32", 60)])
    fake_program(folder, "llama/llama-bench", [[{"avg_ts": 8.0}]])
    fake_program(folder, "llama/llama-quantize", [])
    for name in ("int8-1", "int4-1"):
        os.makedirs(f"{folder}/bench/{name}")
    for name in ("bf16.gguf", "q8_0.gguf", "q4_0.gguf"):
        open(f"{folder}/bench/{name}", "w").close()
    text = bench(folder, "decode", "prefill", LLAMA=f"{folder}/llama").stdout.decode()
    assert text.count("| 9.60 GB/s | read | 10.0 | **0.96** |") == 6, text
    assert text.count("| 12.0 tok/s | llama.cpp q8_0 | 8.00 | **1.50** |") == 2, text
    assert text.count("| 48.0 tok/s | oneDNN f32, products alone | 60.0 | **0.80** |") == 6, text
    assert text.count("| 48.0 tok/s | llama.cpp bf16 | 8.00 | **6.00** |") == 2, text
    alone = bench(folder, "decode").stdout.decode()
    assert "llama.cpp is absent" in alone and alone.count("llama.cpp q4_0: absent (LLAMA=DIR)") == 2, alone


def test_starts_and_disks_are_taken_from_their_benches(folder):
    fake_build(folder)
    for name in ("int8-1", "int4-1"):
        os.makedirs(f"{folder}/bench/{name}")
    fake_program(folder, "tests/bench_start", [*(sample(f"first step {what}, {n}", ms, ms) for n in ("1 thread", "2 threads")
                                                 for what, ms in (("plain", 100), ("verified", 150), ("behind hashing", 200))),
                                               sample("cold first logits", 2.0), sample("cold plain read", 1.5)])
    for name, text in (("tests/bench_disk", "disk write: 4 MiB, 8 in flight: 1.10 GB/s\ndisk best write: 1.25 GB/s (4 MiB, 8 in flight)"), ("tprun", "7")):
        with open(os.path.join(folder, name), "w") as f:
            f.write(f"#!/bin/sh\ncat <<'E'\n{text}\nE\n")
        os.chmod(os.path.join(folder, name), 0o755)
    text = bench(folder, "limits", "start").stdout.decode()
    assert "| disk, direct write | 1.25 GB/s |" in text, text
    assert text.count("| 150 ms | plain | 100 | **1.50** | <= 1.35 | short |") == 6, text
    assert text.count("| 2.00 s | a plain read of the files | 1.50 | **1.33** |") == 3, text
    assert len(re.findall(r"\| \w+, (warm|cold) \| [\d.() s-]+ \| llama.cpp \w+: absent", text)) == 6, text


def test_rounds_end_in_time():
    assert list(rounds(3, 1000)) == [0, 1, 2] and list(rounds(3, -1)) == [0]


def test_a_part_that_fails_is_said_and_the_others_go_on(folder):
    fake_build(folder)
    with open(f"{folder}/tests/bench_allreduce", "w") as f:
        f.write("#!/bin/sh\necho no threads >&2\nexit 6\n")
    done = bench(folder, "ranks", "sampler", status=1).stdout.decode()
    assert "FAILED: " in done and "no threads" in done and "greedy, logits of sigma 1" in done
    assert b"there is no part speed; parts: models limits" in bench(folder, "speed", status=1).stderr
    assert b"has no llama-bench" in run([os.path.join(SCRIPTS, "bench.py"), "sampler"], 1, env=dict(os.environ, BUILD=folder, LLAMA=folder)).stderr


def test_the_peers_file_has_all_of_the_checkpoint(folder):
    config = dict(bench_models.CONFIG, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  head_dim=32, vocab_size=32)
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)
    run([os.path.join(SCRIPTS, "synth_checkpoint"), f"{folder}/config.json", "-o", f"{folder}/model"])
    run([sys.executable, os.path.join(SCRIPTS, "make_gguf.py"), f"{folder}/model", f"{folder}/m.gguf"])
    data = open(f"{folder}/m.gguf", "rb").read()
    assert data[:8] == b"GGUF\x03\0\0\0" and int.from_bytes(data[8:16], "little") == 2 * 9 + 3
    matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96) + 2 * 32 * 64
    assert 0 < len(data) - (2 * matrices + 4 * 5 * 64) < 4096
    source = open(f"{folder}/model/model.safetensors", "rb").read()
    header = json.loads(source[8:8 + int.from_bytes(source[:8], "little")])
    first, last = header["model.layers.1.mlp.down_proj.weight"]["data_offsets"]
    base = 8 + int.from_bytes(source[:8], "little")
    assert source[base + first:base + last] in data and b"blk.1.ffn_down.weight" in data


def test_docs_show_what_is_recorded():
    done = run([os.path.join(SCRIPTS, "bench_plot.py"), "--check"], None, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"))
    assert done.returncode == 0, done.stdout.decode()
    assert bench_plot.records(os.path.join(ROOT, "docs", "benchmarks")), "nothing is recorded"


def test_tables_and_plot_are_made_of_the_records(folder):
    os.makedirs(f"{folder}/benchmarks")
    machine = {"cpu": "A <made up> one", "kind": "avx2", "processors": 2, "memory_gib": 4, "date": "2026-01-02", "commit": "abc"}
    rows = [row("decode", "bf16, 1 thread", "GB/s", [9.6, 9.7, 9.9], "read", [10, 10, 10]),
            row("decode", "bf16, 1 thread", "tok/s", [1, 1.1, 1.2], "llama.cpp bf16", [1, 1, 1], "llama.cpp")]
    for name, date, kind in (("old", "2026-01-02", "avx2"), ("new", "2026-02-02", "zen")):
        with open(f"{folder}/benchmarks/{name}.jsonl", "w") as f:
            f.write("".join(json.dumps(e) + "\n" for e in ({"machine": dict(machine, date=date, kind=kind)}, *rows)))
    with open(f"{folder}/benchmarks.md", "w") as f:
        f.write(f"before\n\n{bench_plot.BEGIN}\nolder\n{bench_plot.END}\nafter\n")
    env = dict(os.environ, BENCH_DOCS=folder, PYTHONDONTWRITEBYTECODE="1")
    plot = os.path.join(SCRIPTS, "bench_plot.py")
    run([plot], env=env)
    run([plot, "--check"], env=env)
    page, picture = open(f"{folder}/benchmarks.md").read(), open(f"{folder}/benchmarks.svg").read()
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "older" not in page
    assert page.index("2026-02-02") < page.index("2026-01-02") and page.count("| **0.97** | >= 0.95 | PASS |") == 2
    assert page.count("1 of 2 that were measured are met") == 2
    xml.etree.ElementTree.fromstring(picture)
    assert picture.count('<circle class="pass"') == 2 and picture.count('<rect class="short"') == 2 and "prefers-color-scheme: dark" in picture
    shutil.copy(f"{folder}/benchmarks/old.jsonl", f"{folder}/benchmarks/third.jsonl")
    assert run([plot, "--check"], 1, env=env).stdout.decode().count("is not what") == 2


harness.main(globals())
