"""Every float checkpoint at every degree against its float64 truth: greedy ids, and the distance of the logits."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DATA, DEMO, Folder, convert, float_checkpoints, tprun
import golden_check

DEGREES = (1, 2, 3, 5, 7, 8, 16) if harness.SHARE == 1 else (1, 5)


def test_float_checkpoints_at_every_degree():
    for name, model in float_checkpoints():
        with Folder() as d:
            for tp in DEGREES:
                convert(model, f"{d}/{tp}", "--tp", tp)
                rms, most = golden_check.check(harness.TPRUN, f"{d}/{tp}", model, tokens=True)
                if tp == 1:
                    print(f"    {name}: distance of the logits: rms {rms:.2f}, max {most:.2f} of the bar")


def test_the_demo_model_in_f32_answers_as_the_float64_run():
    golden = json.load(open(os.path.join(DATA, "demo", "golden.json")))
    vocab = json.load(open(os.path.join(DEMO, "config.json")))["vocab_size"]
    for tp in (1, 3):
        with Folder() as d:
            convert(DEMO, d + "/b", "--tp", tp, "--dtype", "f32")
            for case in golden["cases"]:
                n = len(case["ids"]) - len(case["prompt_ids"])
                done = tprun("generate", d + "/b", "-p", case["prompt"], "-n", n, "--ids", "--ignore-eos", "--temp", "0", "-q")
                assert list(map(int, done.stdout.split())) == case["ids"][len(case["prompt_ids"]):], (tp, case["prompt"])
            ids, window = golden["nll"]["ids"], golden["nll"]["window"]
            nll = harness.mean_nll(d + "/b", d, ids, window, vocab)
            off = nll - golden["nll"]["mean_nll"]
            print(f"    tp {tp}: NLL {nll:.6f}, {off:+.2e} from the golden one")
            assert abs(off) < 1e-4, off


harness.main(globals())
