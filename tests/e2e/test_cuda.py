"""The GPU as a device, emulated (tests/cuda): the host's code as it is, the kernels as C++, the CPU's bits."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, convert, error_line, float_checkpoints, run
import golden_check

EMULATED = os.path.join(harness.BUILD, "tests", "tprun_cuda")
DRIVER = os.path.join(harness.BUILD, "tests", "emulated")
IDS = [1, 5, 9, 2, 14, 7, 7, 3, 2, 11, 9, 13, 1, 12, 8, 10, 4, 6, 2, 5, 3, 8]  # more than a group of rows
QUANTS = ([], ["--quant", "int8"], ["--quant", "fp8"]) + tuple(
    ["--quant", "int4", "--group", g, "--offset", o] for g, o in (("32", "none"), ("64", "zero"), ("128", "min")))


def environment(**more):
    """The emulated driver in place of the machine's. HARDWARE=1: the machine's own."""
    env = {**os.environ, **{k: str(v) for k, v in more.items()}}
    if not os.environ.get("HARDWARE"):
        env["LD_LIBRARY_PATH"] = DRIVER
    return env


def program():
    return harness.TPRUN if os.environ.get("HARDWARE") else EMULATED


def emulated(*args, status=0, **env):
    return run([program(), *args, "--device", "cuda"], status, env=environment(**env))


def said(call, bundle, d, *args):
    """Logits, trace, greedy and sampled ids."""
    ids = ",".join(map(str, IDS))
    call("logits", bundle, "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q", *args)
    greedy = call("generate", bundle, "--prompt-ids", ids, "-n", "6", "--ids", "--ignore-eos", "-q", *args)
    drawn = call("generate", bundle, "--prompt-ids", "3,1", "-n", "6", "--temp", "0.8", "--top-p", "0.9", "--ids", "--ignore-eos", "-q", *args)
    return [open(d + "/" + n, "rb").read() for n in "lt"] + [greedy.stdout, drawn.stdout]


def test_every_checkpoint_and_format_has_the_cpus_bits():
    for i, (name, model) in enumerate(float_checkpoints()):
        for j, options in enumerate(QUANTS):
            dtype = ("keep", "bf16", "f16", "f32")[(i + j) % 4]
            if (i + j) % min(harness.SHARE, 4):
                continue
            with Folder() as d:
                convert(model, d + "/b", "--dtype", dtype, *options)
                want = said(harness.tprun, d + "/b", d)
                got = said(emulated, d + "/b", d)
                assert want == got, (name, dtype, options, [x == y for x, y in zip(want, got)])


harness.main(globals())
