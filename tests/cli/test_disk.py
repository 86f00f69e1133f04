"""Disk space: what is said to be needed is what is taken, and too little is exit 5 before anything is made."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Skip, checkpoint, convert, error_line, run, tpshard

# Beyond the files as they are in the end: the log and the journal, folders, the selftest's and the manifest's room for more digits.
SLACK = 96 << 10


def disk(path):
    """Bytes of disk that a folder takes"""
    return sum(os.lstat(os.path.join(base, n)).st_blocks * 512 for base, folders, files in os.walk(path) for n in files)


def needed(model, out, *args):
    found = json.loads(tpshard("convert", model, "-o", out, "--dry-run", "--json", "-q", *args).stdout)
    assert found["disk_free_bytes"] > 1 << 20
    return found["disk_needed_bytes"]


def test_what_a_conversion_needs_is_what_the_bundle_takes(tmp):
    cases = (
        ("yarn", ()), ("mqa-bias", ("--tp", "3")), ("qwen2-bias", ("--tp", "16")), ("mixed-dtype", ("--tp", "2", "--dtype", "f32")),
        ("qwen3-norm", ("--tp", "5", "--quant", "int4", "--group", "32", "--offset", "min")), ("llama3-rope", ("--tp", "1", "--quant", "int8")))
    for i, (name, args) in enumerate(cases[::3 if harness.SHARE > 1 else 1]):
        out, selftest = f"{tmp}/{name}", i % 2 == 0
        want = needed(checkpoint(name), out, *args, *(() if selftest else ("--no-selftest",)))
        convert(checkpoint(name), out, *args, selftest=selftest)
        took = disk(out)
        assert took <= want <= took + SLACK, f"{name} {args}: {want} said, {took} taken"
        plan = json.loads(tpshard("plan", checkpoint(name), "--json", *(args or ("--tp", "1"))).stdout)
        files = sum(os.path.getsize(f"{out}/{f}") for f in os.listdir(out) if f.endswith(".tps"))
        assert plan["degrees"][0]["disk_bytes"] == files


def fullest(out, *args):
    """The most that OUTPUT.partial takes: before each deletion of a name, where there is more than before or after."""
    most, k = 0, 1
    while True:
        p = subprocess.Popen([harness.TPSHARD, "convert", *args, "-o", out, "-q", "--no-selftest"], env=dict(os.environ, TP_FAULT=f"stop:unlink:{k}"))
        if not os.WIFSTOPPED(os.waitpid(p.pid, os.WUNTRACED)[1]):
            p.returncode = 0
            assert k > 2, "nothing was deleted"
            return most
        if os.path.exists(out + ".partial"):
            most = max(most, disk(out + ".partial"))
        p.kill()
        p.wait()
        for path in (out, out + ".partial"):
            shutil.rmtree(path, ignore_errors=True)
        k += 1


def test_raw_files_and_frames_are_there_together_for_one_rank_at_a_time(tmp):
    """The worst case is said: frames that are not smaller. Those of 4 bits hardly are."""
    for tp in (3, 1)[::harness.SHARE]:
        args = (checkpoint("qwen2-bias"), "--tp", str(tp), "--quant", "int4", "--compress", "zstd")
        want, raw = needed(args[0], tmp + "/b", *args[1:], "--no-selftest"), needed(args[0], tmp + "/b", *args[1:-2], "--no-selftest")
        most = fullest(f"{tmp}/b{tp}", *args)
        print(f"    tp {tp}: {want} said, {most} taken, {raw} without compression")
        assert 0.75 * want < most <= want, (most, want)
        assert want < raw * (1 + 1.2 / tp) + SLACK


def test_a_run_that_goes_on_needs_what_is_missing(tmp):
    for args in (("--tp", "2"), ("--tp", "2", "--compress", "zstd")):
        out = f"{tmp}/b{len(args)}"
        whole = needed(checkpoint("mqa-bias"), out, *args)
        convert(checkpoint("mqa-bias"), out, *args, status=-9, env=dict(os.environ, TP_FAULT="kill:sync:9"))
        there = disk(out + ".partial")
        assert there > whole // 4, (there, whole)
        assert needed(checkpoint("mqa-bias"), out, *args) == whole - there
        convert(checkpoint("mqa-bias"), out, *args)
        assert needed(checkpoint("mqa-bias"), out, *args) == whole  # --force leaves the old one where it is until the end


def test_it_is_said_before_the_work_where_details_are_asked_for(tmp):
    line = re.compile(r"^tpshard: disk: \d+\.\d{3} GB needed, \d+\.\d{3} GB free in " + re.escape(tmp) + "$", re.M)
    for args in (("convert", checkpoint("yarn"), "-o", tmp + "/b", "--no-selftest"), ("convert", checkpoint("yarn"), "-o", tmp + "/c/", "--dry-run"),
                 ("reshard", tmp + "/b", "-o", tmp + "/r", "--tp", "3"), ("export", tmp + "/b", "-o", tmp + "/x")):
        said = tpshard(*args, *([] if "--dry-run" in args else ["-v"])).stderr.decode()
        assert len(line.findall(said)) == 1, said
        if "--dry-run" not in args:
            assert "disk" not in tpshard(*args, "--force").stderr.decode()
    out = tpshard("plan", checkpoint("yarn"), "-o", tmp + "/b").stdout.decode()
    assert re.search(r"^[0-9.]+ \w+ of disk free in " + re.escape(tmp) + "$", out, re.M) and "  disk" in out, out
    here = json.loads(run([harness.TPSHARD, "plan", checkpoint("yarn"), "--json"], cwd=tmp).stdout)
    assert here["disk_free_bytes"] > 1 << 20
    error_line(tpshard("plan", checkpoint("yarn"), "-o", tmp + "/nowhere/b", status=None), 5, "nowhere")


def test_too_little_is_refused_before_anything_is_made(tmp):
    """A file system of 1 MiB, real; then one of just what is needed, which is enough."""
    model, mnt = checkpoint("mqa-bias"), tmp + "/mnt"
    os.mkdir(mnt)
    convert(model, tmp + "/good", "--tp", "2")
    shard, q = harness.TPSHARD, f"-q -o {mnt}/b"
    commands = (f"{shard} convert {model} --tp 2 --no-selftest {q}", f"{shard} convert {model} --tp 2 --compress zstd {q}",
                f"{shard} reshard {tmp}/good --tp 3 {q}", f"{shard} export {tmp}/good {q}")
    script = f"mount -t tmpfs -o size=1m tmpfs {mnt} || exit 99; " + "".join(f"{c}; echo $?; ls -a {mnt} | wc -l; " for c in commands)
    sizes = [needed(model, mnt + "/b", "--tp", "2", "--no-selftest"), needed(model, mnt + "/b", "--tp", "2", "--compress", "zstd")]
    for command, size in zip(commands, sizes):
        script += f"mount -t tmpfs -o size={size // 4096 * 4096 + 4096} tmpfs {mnt}; {command}; echo $?; {shard} verify {mnt}/b -q; echo $?; umount {mnt}; "
    done = run(["unshare", *(["-m"] if os.geteuid() == 0 else ["-rm"]), "sh", "-c", script], None)
    if done.returncode == 99 or not done.stdout:
        raise Skip("no right to mount")
    assert done.stdout.split() == [b"5", b"2"] * len(commands) + [b"0", b"0"] * len(sizes), (done.stdout, done.stderr)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(commands), lines
    form = re.compile(r"tpshard: error IO01: " + re.escape(mnt) + r"/b: needs (\d+) bytes in " + re.escape(mnt) + r", \d+ are free: No space left on device")
    said = [int(form.fullmatch(line).group(1)) for line in lines]
    assert said[:2] == sizes
    for n, args in zip(said[2:], (("reshard", "--tp", "3"), ("export",))):
        tpshard(args[0], tmp + "/good", "-o", f"{tmp}/{args[0]}", "-q", *args[1:])
        took = disk(f"{tmp}/{args[0]}")
        assert took <= n <= took + SLACK, (args, n, took)


harness.main(globals())
