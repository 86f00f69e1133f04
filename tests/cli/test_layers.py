#!/usr/bin/env python3
"""convert --layers: the first layers of a checkpoint are the model that a checkpoint with no more layers is."""
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import seal
from harness import checkpoint, convert, error_line, tprun, tpshard

MODELS = ("qwen2-window", "mistral-window", "qwen3-norm", "qwen2-bias", "mqa-bias")
IDS = ",".join(str(i * 37 % 251 + 3) for i in range(40))  # longer than the windows


def manifest(bundle):
    with open(bundle + "/manifest.json", encoding="utf-8") as f:
        return json.load(f)


def config(folder, **changes):
    """config.json of a folder; changes are written to it."""
    with open(folder + "/config.json", encoding="utf-8") as f:
        found = json.load(f)
    if changes:
        found.update(changes)
        with open(folder + "/config.json", "w", encoding="utf-8") as f:
            json.dump(found, f)
    return found


def shorter(tmp, name, n):
    """A checkpoint whose config.json says that it has n layers; tensors of the others lie there unused."""
    folder = f"{tmp}/{name}-of-{n}"
    shutil.copytree(checkpoint(name), folder)
    types = config(folder).get("layer_types")
    config(folder, num_hidden_layers=n, **({"layer_types": types[:n]} if types else {}))
    return folder


def logits(bundle, tmp):
    path = tmp + "/logits"
    tprun("logits", bundle, "--prompt-ids", IDS, "-o", path, "-q")
    with open(path, "rb") as f:
        return f.read()


def forge(bundle, **source):
    """Change the manifest's source; ids and hashes agree, those in the rank files too."""
    def heads(m):
        for rank in m["ranks"]:
            with open(f"{bundle}/{rank['file']}", "r+b") as f:
                head = bytearray(f.read(4096))
                head[16:32] = bytes.fromhex(m["bundle_id"])
                head[4080:] = bytes.fromhex(seal.xxh3(bytes(head[:4080])))
                f.seek(0)
                f.write(head)
            rank["header_hash"] = seal.xxh3(bytes(head))
    seal.seal(bundle, lambda m: m["source"].update(source))
    seal.seal(bundle, heads)


def hashes(bundle):
    return [[(t["name"], t["hash"]) for t in rank["tensors"]] for rank in manifest(bundle)["ranks"]]


def test_the_first_layers_are_bit_for_bit_those_of_a_checkpoint_without_the_others(tmp):
    for name in MODELS[::2 if harness.SHARE > 1 else 1]:
        layers = config(checkpoint(name))["num_hidden_layers"]
        for n in sorted({1, layers - 1}):
            first, alone = f"{tmp}/{name}-first-{n}", f"{tmp}/{name}-alone-{n}"
            convert(checkpoint(name), first, "--layers", n, "--tp", 3)
            convert(shorter(tmp, name, n), alone, "--tp", 3)
            a, b = manifest(first), manifest(alone)
            assert a["model"] == b["model"] and len(a["model"]["window"]) == a["model"]["n_layers"] == n
            assert hashes(first) == hashes(alone), name
            assert a["source"]["layers_of"] == layers and "layers_of" not in b["source"]
            assert a["source"]["unused"] == b["source"]["unused"] and a["source"]["unused"]
            assert a["bundle_id"] != b["bundle_id"]  # what is said of the source, config.json
            assert logits(first, tmp) == logits(alone, tmp), name


def test_a_bundle_of_all_layers_does_not_change(tmp):
    layers = config(checkpoint("qwen2-window"))["num_hidden_layers"]
    convert(checkpoint("qwen2-window"), tmp + "/all")
    convert(checkpoint("qwen2-window"), tmp + "/as-many", "--layers", layers)
    for name in os.listdir(tmp + "/all"):
        with open(f"{tmp}/all/{name}", "rb") as a, open(f"{tmp}/as-many/{name}", "rb") as b:
            assert a.read() == b.read(), name


def test_what_takes_a_bundle_takes_one_of_the_first_layers(tmp):
    for name in ("qwen2-window", "qwen2-bias"):
        model, bundle, again = checkpoint(name), f"{tmp}/{name}", f"{tmp}/{name}-again"
        layers = config(model)["num_hidden_layers"]
        done = tpshard("convert", model, "-o", bundle, "--layers", 3)
        assert f"first 3 of {layers} layers" in done.stderr.decode()
        assert f"first 3 of {layers} layers" in tpshard("inspect", bundle).stdout.decode()
        found = json.loads(tpshard("inspect", bundle, "--json").stdout)
        assert (found["model"]["n_layers"], found["layers_of"]) == (3, layers)
        tprun("selftest", bundle)
        tpshard("verify", bundle, "--against", model)
        done = tpshard("reshard", bundle, "-o", again, "--tp", 5)
        assert f"first 3 of {layers} layers" in done.stderr.decode()
        tpshard("verify", again, "--against", model)
        assert tpshard("diff", bundle, again).stdout.decode().startswith("equal")
        assert manifest(again)["bundle_id"] == manifest(bundle)["bundle_id"]
        fresh = f"{tmp}/{name}-fresh"
        convert(model, fresh, "--layers", 3, "--tp", 5, selftest=True)
        assert hashes(fresh) == hashes(again) and manifest(fresh) == manifest(again)
        whole = f"{tmp}/{name}-whole"
        convert(model, whole)
        out = tpshard("diff", bundle, whole, status=8).stdout.decode()
        assert f"model n_layers: 3 and {layers}" in out and "model.layers.3.mlp.up_proj.weight: only in the second" in out


def test_an_export_of_the_first_layers_is_a_folder_of_these(tmp):
    for name in ("qwen2-window", "qwen2-bias"):  # the second has layer_types
        model, bundle, out = checkpoint(name), f"{tmp}/{name}", f"{tmp}/{name}-out"
        convert(model, bundle, "--layers", 3)
        done = tpshard("export", bundle, "-o", out)
        assert "config.json says so" in done.stderr.decode()
        was, now = config(model), config(out)
        assert now["num_hidden_layers"] == 3 and list(now) == list(was)
        assert now.get("layer_types") == (was["layer_types"][:3] if "layer_types" in was else None)
        assert {k for k in was if was[k] != now[k]} <= {"num_hidden_layers", "layer_types"}
        convert(out, bundle + "-again")
        assert hashes(bundle + "-again") == hashes(bundle)
        assert manifest(bundle + "-again")["model"] == manifest(bundle)["model"]
        tpshard("export", bundle + "-again", "-o", out + "-again", "-q")
        for f in os.listdir(out):
            if f != "tpshard-export.json":  # it names the bundle
                with open(f"{out}/{f}", "rb") as a, open(f"{out}-again/{f}", "rb") as b:
                    assert a.read() == b.read(), f


def test_layers_that_there_are_not_are_a_wrong_command_line(tmp):
    model = checkpoint("qwen2-window")
    layers = config(model)["num_hidden_layers"]
    for command in (["convert", model, "-o", tmp + "/b"], ["plan", model]):
        error_line(tpshard(*command, "--layers", layers + 1, status=None), 2, f"--layers {layers + 1}: ", f" has {layers} layers")
        for n in ("0", "-1", "1.5", "", "1025", "all"):
            error_line(tpshard(*command, "--layers", n, status=None), 2, "--layers", f'"{n}"', "1 to 1024")
    assert not os.listdir(tmp)


def test_plan_and_dry_run_take_layers(tmp):
    model = checkpoint("qwen2-window")
    layers = config(model)["num_hidden_layers"]
    assert f"first 2 of {layers} layers" in tpshard("plan", model, "--layers", 2).stdout.decode()
    plan = json.loads(tpshard("plan", model, "--layers", 2, "--tp", 3, "--json").stdout)
    dry = json.loads(tpshard("convert", model, "--layers", 2, "--tp", 3, "--dry-run", "--json").stdout)
    convert(model, tmp + "/b", "--layers", 2, "--tp", 3)
    found = manifest(tmp + "/b")
    assert (plan["model"]["n_layers"], plan["layers_of"]) == (2, layers)
    assert [r["weights_bytes"] for r in plan["degrees"][0]["ranks"]] == [r["data_bytes"] for r in found["ranks"]]
    assert [[t["name"] for t in r["tensors"]] for r in dry["ranks"]] == [[t["name"] for t in r["tensors"]] for r in found["ranks"]]


def test_verify_against_notices_other_layers(tmp):
    model, bundle = checkpoint("qwen2-window"), tmp + "/b"
    convert(model, bundle, "--layers", 3)
    for n, named in ((2, "2 layers"), (3, "layers_of")):
        error_line(tpshard("verify", bundle, "--against", shorter(tmp, "qwen2-window", n), status=None), 7, named)
    convert(model, tmp + "/whole")
    error_line(tpshard("verify", tmp + "/whole", "--against", shorter(tmp, "qwen2-window", 1), status=None), 7, "n_layers")


def test_a_manifest_that_says_impossible_layers_is_refused(tmp):
    bundle = tmp + "/b"
    convert(checkpoint("qwen2-window"), bundle, "--layers", 3)
    for value in (0, 3, -4, 1025, "4", 4.0, [4], True):
        shutil.copytree(bundle, tmp + "/forged")
        seal.seal(tmp + "/forged", lambda m: m["source"].update(layers_of=value))
        error_line(tpshard("inspect", tmp + "/forged", status=None), 3, "layers_of")
        error_line(tprun("generate", tmp + "/forged", "--prompt-ids", "1", status=None), 3, "layers_of")
        shutil.rmtree(tmp + "/forged")
    forge(bundle, layers_of=5)
    assert "first 3 of 5 layers" in tpshard("inspect", bundle).stdout.decode()
    error_line(tpshard("verify", bundle, status=None), 7, "5 layers", "config.json has 4")


def test_an_interrupted_run_goes_on_with_the_same_layers_only(tmp):
    model, bundle = checkpoint("qwen2-window"), tmp + "/b"
    convert(model, tmp + "/want", "--layers", 3)
    env = dict(os.environ, TP_FAULT="kill:sync:30")
    convert(model, bundle, "--layers", 3, status=-9, env=env)
    error_line(convert(model, bundle, "--layers", 2, status=None), 8, "--restart")
    error_line(convert(model, bundle, status=None), 8, "--restart")
    convert(model, bundle, "--layers", 3)
    assert manifest(bundle) == manifest(tmp + "/want")


harness.main(globals())
