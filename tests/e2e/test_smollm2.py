"""SmolLM2-135M-Instruct, a real model: 9 heads, 3 KV heads, 30 layers, tied, vocabulary 49152.

SMOLLM2 is its folder (shared's checkpoints/smollm2.py makes it from a PyPI package); without it these tests skip.
"""
import array
import json
import math
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, SHARED, Skip, convert, tprun

DEGREES, VOCAB, WINDOW = (1, 3, 4, 9), 49152, 1024


def model():
    folder = os.environ.get("SMOLLM2", "")
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        raise Skip("SMOLLM2 is not set to a folder with the model")
    return folder


def golden():
    path = os.path.join(SHARED, "checkpoints", "smollm2-golden.json")
    if not os.path.exists(path):
        raise Skip("no smollm2-golden.json")
    return json.load(open(path))


def wikitext_ids(bundle, folder):
    """The first 2048 tokens of the text, by our tokenizer (a prompt's ids are in generate's answer)."""
    text = open(os.path.join(SHARED, "data", "text", "wikitext2_test_raw_joined.txt"), encoding="utf-8").read()
    with open(folder + "/text", "w", encoding="utf-8") as f:
        f.write(text[:20000])
    done = tprun("generate", bundle, "-f", folder + "/text", "-n", "1", "--json", "--temp", "0", "-q")
    return json.loads(done.stdout)["prompt_ids"][:2 * WINDOW]


def greedy(bundle, case):
    done = tprun("generate", bundle, "--prompt-ids", ",".join(map(str, case["prompt_ids"])), "-n", len(case["greedy_ids"]),
                 "--ids", "--ignore-eos", "--temp", "0", "-q")
    return list(map(int, done.stdout.split()))


def test_f32_gives_every_golden_greedy_id():
    g = golden()
    with Folder() as d:
        for tp in DEGREES:
            convert(model(), f"{d}/{tp}", "--tp", tp, "--dtype", "f32")
            for case in g["cases"]:
                assert greedy(f"{d}/{tp}", case) == case["greedy_ids"], (tp, case["name"])


def test_prompts_encode_to_the_golden_ids():
    with Folder() as d:
        convert(model(), d + "/b")
        for case in golden()["cases"]:
            done = tprun("generate", d + "/b", "-p", case["prompt"], "-n", "1", "--json", "-q")
            assert json.loads(done.stdout)["prompt_ids"] == case["prompt_ids"], case["name"]


def test_bf16_agrees_where_the_margin_is_clear_and_its_nll_is_close():
    g = golden()
    want = g["wikitext_nll"]["float64"]["mean"]
    with Folder() as d:
        seen = None
        for tp in DEGREES:
            bundle, steps, agreeing = f"{d}/{tp}", 0, 0
            convert(model(), bundle, "--tp", tp)
            for case in g["cases"]:
                ids = case["prompt_ids"] + case["greedy_ids"]
                tprun("logits", bundle, "--prompt-ids", ",".join(map(str, ids)), "-o", d + "/l", "-q")
                logits = array.array("f", open(d + "/l", "rb").read())
                for i, (token, margin) in enumerate(zip(case["greedy_ids"], case["margins"])):
                    at = (len(case["prompt_ids"]) - 1 + i) * VOCAB
                    row = logits[at:at + VOCAB]
                    best = max(range(VOCAB), key=row.__getitem__)
                    steps, agreeing = steps + 1, agreeing + (best == token)
                    assert best == token or margin <= 0.5, (tp, case["name"], i, margin)
            ids = wikitext_ids(bundle, d)
            nll = harness.mean_nll(bundle, d, ids, WINDOW, VOCAB, False)
            print(f"    bf16 tp {tp}: {agreeing} of {steps} steps agree; NLL {nll:.7f}, {100 * (nll / want - 1):+.4f} % of the golden one")
            assert abs(nll / want - 1) < 0.0005, nll
            assert seen in (None, nll), "another NLL at another degree"
            seen = nll


def test_quantized_perplexity():
    with Folder() as d:
        convert(model(), d + "/bf16")
        ids = wikitext_ids(d + "/bf16", d)
        base = harness.mean_nll(d + "/bf16", d, ids, WINDOW, VOCAB, False)
        for quant, bound in (("int8", 0.001), ("fp8", None)):
            seen = None
            for tp in DEGREES:
                bundle = f"{d}/{quant}-{tp}"
                convert(model(), bundle, "--tp", tp, "--quant", quant)
                tprun("logits", bundle, "--prompt-ids", ",".join(map(str, ids[:200])), "-o", d + "/l", "-q")
                bits = open(d + "/l", "rb").read()
                assert seen in (None, bits), f"{quant}: other bits at tp {tp}"
                seen = bits
            nll = harness.mean_nll(f"{d}/{quant}-3", d, ids, WINDOW, VOCAB, False)
            worse = math.exp(nll - base) - 1
            print(f"    {quant}: NLL {nll:.7f}, perplexity {100 * worse:+.3f} % against bf16")
            assert bound is None or worse <= bound, worse


def test_the_chat_question_gets_the_golden_answer():
    case = [c for c in golden()["cases"] if c["name"] == "chat"][0]
    with Folder() as d:
        convert(model(), d + "/b", "--dtype", "f32")
        done = tprun("generate", d + "/b", "--chat", "-p", "What is the capital of France?", "-n", "32", "--temp", "0", "--json", "-q")
        got = json.loads(done.stdout)
        assert got["prompt_ids"] == case["prompt_ids"]
        assert got["ids"] == case["greedy_ids"][:len(got["ids"])] and got["finish"] == "eos"
        assert got["text"] == case["greedy_text"].split("<|im_end|>")[0]
        plain = tprun("generate", d + "/b", "--chat", "-p", "What is the capital of France?", "-n", "32", "--temp", "0", "-q")
        assert plain.stdout.decode() == got["text"] + "\n"


def test_three_turns_equal_the_conversation_at_once():
    lines = ("What is the capital of France?", "What can I see there? Two sentences.", "Write that as a list.")
    with Folder() as d:
        said = {}
        for tp in (1, 3):
            bundle = f"{d}/{tp}"
            convert(model(), bundle, "--tp", tp, "--dtype", "f32")
            for args in (("--temp", "0"), ("--temp", "0.8", "--top-p", "0.9", "--seed", "11")):
                typed = "".join(f"{line}\n/save {d}/turn{i}\n" for i, line in enumerate(lines)).encode()
                done = tprun("chat", bundle, "--stats", "-n", "60", *args, input=typed)
                answers = []
                for i in range(len(lines)):
                    messages = json.load(open(f"{d}/turn{i}"))
                    with open(d + "/p", "w") as f:
                        f.write(json.dumps({"messages": messages[:-1]}) + "\n")
                    once = tprun("generate", bundle, "--chat", "--prompts", d + "/p", "-n", "60", "-q", *args)
                    assert once.stdout.decode() == messages[-1]["content"] + "\n", (tp, args, i)
                    answers.append(once.stdout)
                assert done.stdout == b"".join(answers), (tp, args)
                reused = [int(n) for n in re.findall(rb"(\d+) reused", done.stderr)]
                assert reused[0] == 0 and reused[1] > 30 and reused[2] > reused[1], reused
                assert said.setdefault(args, done.stdout) == done.stdout, f"another conversation at tp {tp}"


harness.main(globals())
