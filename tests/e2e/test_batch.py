"""Requests that join, leave and are taken back at random steps, prompts beside answers: each is answered as it is alone."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, convert, run, tiny_model

PROGRAM = os.path.join(harness.BUILD, "tests", "batch_random")


def test_an_answer_does_not_depend_on_the_company():
    with Folder() as d:
        tiny_model(d + "/m", vocab_size=1200, num_attention_heads=4, num_key_value_heads=2, hidden_size=16, torch_dtype="float32",
                   num_hidden_layers=2)
        for tp in (1, 3):
            convert(d + "/m", f"{d}/{tp}", "--tp", tp)
            for threads in (1, 3, 4):
                for seed in range(1 + 7 // harness.SHARE):
                    done = run([PROGRAM, f"{d}/{tp}", threads, seed])
            print(f"    tp {tp}: {done.stdout.decode().strip()}")


harness.main(globals())
