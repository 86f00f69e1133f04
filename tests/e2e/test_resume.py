"""A conversion that is killed, starved or robbed of its source loses nothing, and resumes to the same bytes."""
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, checkpoint, convert, error_line, tpshard, tree_bytes

KILLS = 200 // harness.SHARE
MODEL, OPTIONS = "mqa-bias", ("--tp", "3", "--threads", "2")


def count_calls(model, bundle, *args, selftest):
    done = convert(model, bundle, *args, selftest=selftest, env=dict(os.environ, TP_FAULT="count"))
    lines = done.stderr.decode().splitlines()
    kinds = {l.split()[2]: int(l.split()[3]) for l in lines if l.startswith("io call: ")}
    return int(next(l.split()[2] for l in lines if l.startswith("io calls: "))), kinds


def fewest_calls(model, folder, *args, selftest):
    """How many chunks a sync covers is a matter of timing, and so is the number of calls."""
    runs = [count_calls(model, os.path.join(folder, f"count{i}"), *args, selftest=selftest) for i in range(4)]
    return min(n for n, _ in runs), {kind: min(r.get(kind, 1) for _, r in runs) for _, kinds in runs for kind in kinds}


def spread(n, count):
    """count numbers over 1..n, both ends included"""
    return sorted({1 + i * (n - 1) // max(count - 1, 1) for i in range(count)})


def killed(model, bundle, k, *args, selftest=False):
    done = convert(model, bundle, *args, selftest=selftest, status=None, env=dict(os.environ, TP_FAULT=f"kill:{k}"))
    return done.returncode == -9


def resume(model, bundle, *args, selftest=False):
    """Run to the end, not quiet; True when bytes of the killed run were used."""
    done = tpshard("convert", model, "-o", bundle, *([] if selftest else ["--no-selftest"]), *args)
    return "from the interrupted run" in done.stderr.decode()


def kill_everywhere(kills, selftest, *args):
    model = checkpoint(MODEL)
    with Folder() as d:
        calls, kinds = fewest_calls(model, d, *args, selftest=selftest)
        want, used, hits, at_kinds = tree_bytes(os.path.join(d, "count0")), 0, 0, set()
        numbers, again = spread(calls, kills), random.Random(1)
        while hits < kills:
            k = numbers.pop(0) if numbers else again.randint(1, calls)
            bundle = os.path.join(d, f"b{k}")
            if killed(model, bundle, k, *args, selftest=selftest):
                hits += 1
                complete = os.path.exists(bundle) and "journal" not in os.listdir(bundle)
                used += complete or resume(model, bundle, *args, selftest=selftest)
            assert tree_bytes(bundle) == want, f"killed at call {k} of {calls}: other bytes after the resume"
            assert not os.path.exists(bundle + ".partial"), f"killed at call {k}: leftovers"
            shutil.rmtree(bundle)
        for kind, n in kinds.items():  # every kind of call: its first, one in the middle, its last
            for k in sorted({1, (n + 1) // 2, n}):
                bundle = os.path.join(d, f"{kind}{k}")
                if killed(model, bundle, f"{kind}:{k}", *args, selftest=selftest):
                    at_kinds.add(kind)
                    complete = os.path.exists(bundle) and "journal" not in os.listdir(bundle)
                    complete or resume(model, bundle, *args, selftest=selftest)
                    assert tree_bytes(bundle) == want, f"killed at {kind} {k}: other bytes after the resume"
                shutil.rmtree(bundle, ignore_errors=True)
        assert at_kinds == set(kinds), set(kinds) - at_kinds
        print(f"    {calls} calls of {len(kinds)} kinds, {hits} kills, {used} resumes used earlier work")
        return hits, used, kinds


def test_killed_at_any_call_resumes_to_the_same_bytes():
    hits, used, kinds = kill_everywhere(KILLS, False, *OPTIONS)
    assert hits == KILLS, hits
    assert used >= KILLS * 0.75, used
    for kind in ("create", "write", "sync", "rename", "mkdir", "close", "reserve", "map"):
        assert kind in kinds, kind


def test_killed_with_selftest_and_compression_resumes_to_the_same_bytes():
    hits, used, _ = kill_everywhere(max(KILLS // 5, 5), True, *OPTIONS, "--compress", "zstd", "--quant", "int8")
    assert hits and used


def test_an_earlier_bundle_is_never_harmed():
    model = checkpoint(MODEL)
    with Folder() as d:
        bundle, new_dir = os.path.join(d, "b"), os.path.join(d, "new")
        convert(model, bundle, "--tp", "2")
        old = tree_bytes(bundle)
        calls, _ = count_calls(model, new_dir, *OPTIONS, selftest=False)
        new = tree_bytes(new_dir)
        shutil.copytree(bundle, os.path.join(d, "old"))
        for k in spread(calls + 12, max(60 // harness.SHARE, 6)):
            killed(model, bundle, k, *OPTIONS, "--force")
            now = tree_bytes(bundle)
            now.pop("journal", None)
            assert now in (old, new), f"killed at call {k}: neither the old nor the new bundle"
            convert(model, bundle, *OPTIONS, "--force")
            assert tree_bytes(bundle) == new, k
            assert not os.path.exists(bundle + ".partial"), k
            shutil.rmtree(bundle)
            shutil.copytree(os.path.join(d, "old"), bundle)


def test_foreign_files_survive_force():
    model = checkpoint(MODEL)
    with Folder() as d:
        bundle = os.path.join(d, "b")
        convert(model, bundle, "--tp", "2")
        with open(os.path.join(bundle, "notes.txt"), "w") as f:
            f.write("mine")
        done = convert(model, bundle, status=2)
        error_line(done, 2, "b")
        convert(model, bundle, "--tp", "3", "--force")
        assert open(os.path.join(bundle, "notes.txt")).read() == "mine"
        assert not os.path.exists(os.path.join(bundle, "rank-000-of-002.tps"))
        os.mkdir(os.path.join(d, "empty"))
        convert(model, os.path.join(d, "empty"))
        assert os.path.exists(os.path.join(d, "empty", "manifest.json"))


def failing(kind, count):
    """Every kind of failure at calls spread over the run: exit 5, resumable, and a run without it completes."""
    model = checkpoint(MODEL)
    with Folder() as d:
        calls, _ = count_calls(model, os.path.join(d, "want"), *OPTIONS, selftest=False)
        want = tree_bytes(os.path.join(d, "want"))
        for k in spread(calls, count):
            bundle = os.path.join(d, f"b{k}")
            done = convert(model, bundle, *OPTIONS, status=None, env=dict(os.environ, TP_FAULT=f"{kind}:{k}"))
            if kind == "short":
                assert done.returncode == 0, done.stderr
            elif done.returncode:
                error_line(done, 5, "No space" if kind == "enospc" else "Input/output")
            convert(model, bundle, *OPTIONS) if done.returncode else None
            assert tree_bytes(bundle) == want, (kind, k)
            shutil.rmtree(bundle)


def test_a_full_disk_at_any_call_gives_exit_5_and_loses_nothing():
    failing("enospc", max(60 // harness.SHARE, 6))


def test_an_io_error_at_any_call_gives_exit_5_and_loses_nothing():
    failing("eio", max(60 // harness.SHARE, 6))


def test_failures_of_every_kind_of_call_are_resumable():
    """The first and the last calls of each kind: the last ones come after the bundle has its name."""
    model = checkpoint(MODEL)
    with Folder() as d:
        _, kinds = fewest_calls(model, d, *OPTIONS, selftest=False)
        want, bundle = tree_bytes(os.path.join(d, "count0")), os.path.join(d, "b")
        for kind, n in kinds.items():
            for k in sorted({1, 2, n - 1, n} - {0}):
                done = convert(model, bundle, *OPTIONS, status=None, env=dict(os.environ, TP_FAULT=f"eio:{kind}:{k}"))
                if done.returncode:
                    error_line(done, 5)
                    convert(model, bundle, *OPTIONS)
                assert tree_bytes(bundle) == want, (kind, k)
                shutil.rmtree(bundle)


def test_short_transfers_change_nothing():
    failing("short", max(40 // harness.SHARE, 5))


def test_a_file_size_limit_gives_exit_5_and_is_resumable():
    model = checkpoint(MODEL)
    with Folder() as d:
        bundle = os.path.join(d, "b")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        error_line(convert(model, bundle, *OPTIONS, status=None, preexec_fn=limit), 5, "rank-0")
        assert not os.path.exists(bundle)
        convert(model, bundle, *OPTIONS)
        convert(model, os.path.join(d, "want"), *OPTIONS)
        assert tree_bytes(bundle) == tree_bytes(os.path.join(d, "want"))


def test_a_folder_that_cannot_be_written_gives_exit_5():
    with Folder() as d:
        error_line(convert(checkpoint(MODEL), "/proc/tpshard-test", status=None), 5, "/proc/tpshard-test")


def test_a_source_that_vanishes_gives_exit_5_and_is_resumable():
    with Folder() as d:
        model, bundle = os.path.join(d, "m"), os.path.join(d, "b")
        shutil.copytree(checkpoint(MODEL), model)
        calls, _ = count_calls(model, os.path.join(d, "want"), *OPTIONS, selftest=False)
        killed(model, bundle, calls // 2, *OPTIONS)
        os.rename(os.path.join(model, "model.safetensors"), os.path.join(d, "away"))
        error_line(convert(model, bundle, *OPTIONS, status=None), 5, "model.safetensors")
        os.rename(os.path.join(d, "away"), os.path.join(model, "model.safetensors"))
        convert(model, bundle, *OPTIONS)
        assert tree_bytes(bundle) == tree_bytes(os.path.join(d, "want"))
        shutil.rmtree(model)
        error_line(convert(model, os.path.join(d, "c"), status=None), 5, "m")


def test_a_source_that_vanishes_during_the_run_gives_exit_5():
    with Folder() as d:
        model, bundle = os.path.join(d, "m"), os.path.join(d, "b")
        shutil.copytree(checkpoint(MODEL), model)
        calls, _ = count_calls(model, os.path.join(d, "want"), *OPTIONS, selftest=False)
        env = dict(os.environ, TP_FAULT=f"stop:{calls // 2}")
        run = subprocess.Popen([harness.TPSHARD, "convert", model, "-o", bundle, "-q", "--no-selftest", *OPTIONS],
                               env=env, stderr=subprocess.PIPE)
        os.waitpid(run.pid, os.WUNTRACED)
        os.rename(model, os.path.join(d, "away"))
        run.send_signal(signal.SIGCONT)
        stderr = run.communicate()[1]
        error_line(subprocess.CompletedProcess([], run.returncode, b"", stderr), 5, "model.safetensors")
        assert not os.path.exists(bundle)
        os.rename(os.path.join(d, "away"), model)
        convert(model, bundle, *OPTIONS)
        assert tree_bytes(bundle) == tree_bytes(os.path.join(d, "want"))


def test_a_source_changed_between_interruption_and_resume_is_refused_by_name():
    with Folder() as d:
        model, bundle = os.path.join(d, "m"), os.path.join(d, "b")
        shutil.copytree(checkpoint(MODEL), model)
        calls, _ = count_calls(model, os.path.join(d, "want"), *OPTIONS, selftest=False)
        killed(model, bundle, calls // 2, *OPTIONS)
        os.utime(os.path.join(model, "model.safetensors"))
        error_line(convert(model, bundle, *OPTIONS, status=None), 7, "model.safetensors", "--restart")
        error_line(convert(model, bundle, "--tp", "2", status=None), 8, "--restart")
        convert(model, bundle, *OPTIONS, "--restart")
        assert tree_bytes(bundle) == tree_bytes(os.path.join(d, "want"))


def test_a_damaged_journal_is_refused_and_a_torn_end_dropped():
    model = checkpoint(MODEL)
    with Folder() as d:
        calls, _ = count_calls(model, os.path.join(d, "want"), *OPTIONS, selftest=False)
        want = tree_bytes(os.path.join(d, "want"))
        for name, damage, status in (("torn", lambda b: b[:-7], 0), ("flip", lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], 7)):
            bundle = os.path.join(d, name)
            killed(model, bundle, calls * 3 // 4, *OPTIONS)
            journal = os.path.join(bundle + ".partial", "journal")
            data = open(journal, "rb").read()
            assert len(data) > 192
            with open(journal, "wb") as f:
                f.write(damage(data))
            done = convert(model, bundle, *OPTIONS, status=None)
            if status:
                error_line(done, status, "journal", "--restart")
                convert(model, bundle, *OPTIONS, "--restart")
            assert tree_bytes(bundle) == want, name


def test_bytes_do_not_depend_on_threads():
    model = checkpoint(MODEL)
    with Folder() as d:
        for n in (1, 2, 5):
            convert(model, os.path.join(d, str(n)), "--tp", "5", "--threads", str(n), "--quant", "fp8")
        assert tree_bytes(os.path.join(d, "1")) == tree_bytes(os.path.join(d, "2")) == tree_bytes(os.path.join(d, "5"))


def test_two_conversions_at_once_are_refused():
    import fcntl
    model = checkpoint(MODEL)
    with Folder() as d:
        bundle = os.path.join(d, "b")
        os.mkdir(bundle + ".partial")
        with open(os.path.join(bundle + ".partial", "journal"), "w+b") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            error_line(convert(model, bundle, status=None), 5, f"pid {os.getpid()}")
        convert(model, bundle)


harness.main(globals())
