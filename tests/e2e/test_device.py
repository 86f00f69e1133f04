"""A second device, of plain loops and one thread (tests/tools/device_plain.c), in the CPU's place: the same engine, the same
program of a step, the same bits."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, convert, float_checkpoints, run
import golden_check

PLAIN = os.path.join(harness.BUILD, "tests", "tprun_plain")
IDS = [1, 5, 9, 2, 14, 7, 7, 3, 2, 11, 9, 13, 1, 12, 8, 10, 4, 6, 2, 5]  # more than a one-shot step


def said(program, bundle, d, *args):
    ids = ",".join(map(str, IDS))
    run([program, "logits", bundle, "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q", *args])
    done = run([program, "generate", bundle, "--prompt-ids", ids, "-n", "8", "--temp", "0.8", "--top-p", "0.9", "--ids", "--ignore-eos",
                "-q", *args])
    return [open(d + "/" + n, "rb").read() for n in "lt"] + [done.stdout]


def test_another_device_has_the_same_bits():
    for name, model in float_checkpoints():
        for options in ([], ["--dtype", "bf16", "--quant", "int8"], ["--dtype", "f16", "--quant", "fp8"])[:: harness.SHARE]:
            with Folder() as d:
                for tp in (1, 3):
                    convert(model, f"{d}/{tp}", "--tp", tp, *options)
                    a, b = (said(p, f"{d}/{tp}", d, "--threads", t) for p, t in ((harness.TPRUN, 2), (PLAIN, 1)))
                    assert a == b, (name, options, tp, [x == y for x, y in zip(a, b)])


def test_another_device_meets_the_golden_results():
    for name, model in float_checkpoints()[:: 3 * harness.SHARE]:
        with Folder() as d:
            convert(model, d + "/b", "--tp", 2)
            golden_check.check(PLAIN, d + "/b", model, tokens=True)


harness.main(globals())
