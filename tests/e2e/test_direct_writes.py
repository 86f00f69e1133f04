"""Large rank files go past the page cache, several writes in flight: any of them may fail, be refused or cut short, or be the last."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, convert, error_line, synthetic, tpshard, tree_bytes

OPTIONS = ("--tp", "2", "--threads", "2")


def large_model(folder):
    """Two rank files of 68 MiB; the source has them to the byte, panels have padding nowhere."""
    return synthetic(folder + "/large", hidden_size=512, num_attention_heads=8, head_dim=64, intermediate_size=1408, vocab_size=65536,
                     torch_dtype="bfloat16")


def attempt(model, bundle, fault):
    return convert(model, bundle, *OPTIONS, status=None, env=dict(os.environ, TP_FAULT=fault))


def direct_calls(done):
    return next((int(l.split()[3]) for l in done.stderr.decode().splitlines() if l.startswith("io call: direct ")), 0)


def test_a_direct_write_that_fails_or_is_the_last_loses_nothing():
    with Folder() as d:
        model, bundle = large_model(d), d + "/b"
        calls = direct_calls(attempt(model, d + "/want", "count"))
        if not calls:
            raise Skip("no direct writes on this file system")
        assert calls >= 30, calls
        want = tree_bytes(d + "/want")
        for action in ("short", "eintr", "einval"):  # the rest of that chunk goes through the page cache
            for k in (1, calls // 2):
                done = attempt(model, bundle, f"{action}:direct:{k}")
                assert done.returncode == 0, done.stderr
                assert tree_bytes(bundle) == want, (action, k)
                shutil.rmtree(bundle)
        for action, says in (("eio", "Input/output"), ("enospc", "No space"), ("kill", None)):
            for k in (1, calls // 2, calls - 1):
                done = attempt(model, bundle, f"{action}:direct:{k}")
                if says:
                    error_line(done, 5, "rank-00", says)
                else:
                    assert done.returncode == -9, done
                assert not os.path.exists(bundle)
                said = tpshard("convert", model, "-o", bundle, "--no-selftest", *OPTIONS).stderr.decode()
                assert k == 1 or "from the interrupted run" in said, said
                assert tree_bytes(bundle) == want, (action, k)
                shutil.rmtree(bundle)


harness.main(globals())
