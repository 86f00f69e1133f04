"""Folders of weights as people have them: what transformers takes is taken, what cannot be is named with what to do.

A folder is a copy of a small checkpoint with a change that means nothing: the bundle has the plain folder's tensors, bit for
bit. What transformers makes of the plain folders is in their golden.json; test_against_golden holds that.
"""
import json
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, checkpoint, error_line, tprun, tpshard

INDEX = "model.safetensors.index.json"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}


def read_file(path):
    data = open(path, "rb").read()
    n = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in header.items()}


def write_file(path, tensors):
    header, body = {}, []
    at = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        body.append(raw)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(body))


class Model:
    """A copy of a small checkpoint; t: its tensors, which save() writes."""

    def __init__(self, folder, name):
        self.dir, self.name = os.path.join(folder, "m"), name
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.copytree(checkpoint(name), self.dir, ignore=shutil.ignore_patterns("golden*"))
        self.files = sorted(f for f in os.listdir(self.dir) if f.endswith(".safetensors"))
        self.t = {}
        for f in self.files:
            self.t.update(read_file(self.path(f)))

    def path(self, name):
        return os.path.join(self.dir, name)

    def put(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb" if isinstance(data, bytes) else "w") as f:
            f.write(data if isinstance(data, (bytes, str)) else json.dumps(data))

    def clear(self):
        for f in os.listdir(self.dir):
            if ".safetensors" in f:
                os.remove(self.path(f))

    def save(self):
        self.clear()
        write_file(self.path("model.safetensors"), self.t)

    def shards(self, files, index=None, total=None, missing=()):
        """files: name -> names of tensors or {name: tensor}; index: changes of weight_map"""
        self.clear()
        where, size = {}, 0
        for f, names in files.items():
            tensors = names if isinstance(names, dict) else {n: self.t[n] for n in names}
            if f not in missing:
                write_file(self.path(f), tensors)
            where.update({n: f for n in tensors})
            size += sum(len(t[2]) for t in tensors.values())
        where.update(index or {})
        self.put(INDEX, {"metadata": {"total_size": size} if total is None else {"total_size": total},
                         "weight_map": {k: v for k, v in where.items() if v}})

    def halves(self):
        names = list(self.t)
        return names[:len(names) // 2], names[len(names) // 2:]

    def config(self, **changes):
        config = json.load(open(self.path("config.json")))
        config.update(changes)
        self.put("config.json", {k: v for k, v in config.items() if v is not ...})


def tensors_of(bundle):
    return [{t["name"]: t["hash"] for t in r["tensors"]} for r in json.load(open(bundle + "/manifest.json"))["ranks"]]


PLAIN = {}


def plain(name):
    """The tensors of the bundle of the checkpoint as it is."""
    if name not in PLAIN:
        with Folder() as d:
            harness.convert(checkpoint(name), d + "/b")
            PLAIN[name] = tensors_of(d + "/b")
    return PLAIN[name]


def taken(m, *says, args=(), strict=True):
    """Converted to the plain folder's tensors, saying these words; strict: and without a warning."""
    bundle = m.dir + ".b"
    shutil.rmtree(bundle, ignore_errors=True)
    done = tpshard("convert", m.dir, "-o", bundle, "--no-selftest", *(("--strict",) if strict else ()), *args)
    text = done.stderr.decode()
    for word in says:
        assert word in text, f"{word!r} is not in {text!r}"
    assert tensors_of(bundle) == plain(m.name), "other tensors than of the plain folder"
    assert ("warning: " in text) == (not strict), text
    if not strict:
        error_line(tpshard("convert", m.dir, "-o", bundle + "2", "--strict", *args, status=None), 3)
    return text


def refused(m, status, *words, args=()):
    bundle = m.dir + ".no"
    line = error_line(tpshard("convert", m.dir, "-o", bundle, "--no-selftest", *args, status=None), status, *words)
    assert not os.path.exists(bundle) and not os.path.exists(bundle + ".partial")
    return line


def zeros(tensor):
    return tensor[0], tensor[1], bytes(len(tensor[2]))


def widened(tensor):
    """The same values as F32."""
    dtype, shape, raw = tensor
    n = len(raw) // 2
    if dtype == "F16":
        return "F32", shape, struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", raw))
    return "F32", shape, b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))


# ---- where a tensor is ----


def test_against_golden(d):
    """transformers' greedy tokens of the plain folder, of one that is changed in many ways at once."""
    m = Model(d, "qwen3-norm")
    golden = json.load(open(os.path.join(checkpoint("qwen3-norm"), "golden.json")))["cases"][0]
    a, b = m.halves()
    m.t = {n.removeprefix("model."): t for n, t in m.t.items()}
    a, b = ([n.removeprefix("model.") for n in x] for x in (a, b))
    m.shards({"a.safetensors": a, "z.safetensors": {**{n: m.t[n] for n in b}, "x.weight": m.t[a[0]]}}, {"gone": "a.safetensors"}, "1 GB")
    m.put("z.safetensors.copy", b"")
    taken(m, strict=True)
    ids = ",".join(map(str, golden["prompt_ids"]))
    done = tprun("generate", m.dir + ".b", "--prompt-ids", ids, "-n", str(len(golden["greedy_ids"])), "--ids", "--temp", "0", "--ignore-eos", "-q")
    assert [int(i) for i in done.stdout.split()] == golden["greedy_ids"], done.stdout


def test_of_a_tensor_in_two_shards_the_index_says_which(d):
    for name in ("mqa-bias", "qwen3-norm"):
        m = Model(d, name)
        a, b = m.halves()
        for twice in (a[0], a[-1], EMBED):
            right = {n: m.t[n] for n in a + [twice]}
            for wrong in (m.t[twice], zeros(m.t[twice]), ("U8", [3], b"abc")):
                for first in ("a.safetensors", "zz.safetensors"):
                    other = {n: m.t[n] for n in b if n != twice}
                    other[twice] = wrong
                    m.shards({"m.safetensors": right, first: other}, {twice: "m.safetensors"})
                    taken(m, "not in the index", strict=False)


def test_a_needed_tensor_in_two_shards_that_no_index_names_is_refused_with_both(d):
    m = Model(d, "mqa-bias")
    a, b = m.halves()
    for twice in (a[1], HEAD, "model.norm.weight"):
        m.shards({"m-1.safetensors": {n: m.t[n] for n in a + [twice]}, "m-2.safetensors": {n: m.t[n] for n in b + [twice]}}, {twice: None})
        refused(m, 3, twice, "m-1.safetensors", "m-2.safetensors")
    for unneeded in ("model.x", "rotary_emb.inv_freq", "mtp.fc.weight"):  # no error of a tensor that nothing needs
        more = {unneeded: ("F32", [1], bytes(4))}
        m.shards({"m-1.safetensors": {**{n: m.t[n] for n in a}, **more}, "m-2.safetensors": {**{n: m.t[n] for n in b}, **more}}, {unneeded: None})
        taken(m, "not in the index", "not used", strict=False)
    m.clear()
    for f in ("m-1.safetensors", "m-2.safetensors"):
        write_file(m.path(f), m.t)
    refused(m, 3, "ambiguous", "m-1.safetensors", "m-2.safetensors")


def test_a_needed_tensor_that_the_index_leaves_out_is_taken_if_it_is_there_once(d):
    m = Model(d, "qwen3-norm")
    a, b = m.halves()
    for names in ((a[0],), (EMBED, "model.norm.weight"), a[1:] + b):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b}, {**{n: None for n in names}, "other": "m-2.safetensors"})
        taken(m, "not in the index", strict=False)


def test_the_whole_file_comes_before_an_index(d):
    m = Model(d, "mqa-bias")
    a, b = m.halves()
    indexes = ({"weight_map": {n: "gone-1.safetensors" for n in a}}, {"weight_map": {n: "model.safetensors" for n in m.t}},
               {"weight_map": {"x": "../../etc/passwd"}}, "<html>", "version https://git-lfs.github.com/spec/v1\n", "")
    for index in indexes:
        m.put(INDEX, index)
        taken(m, "model.safetensors has all that is needed: the index beside it is not read")
    m.put("old.safetensors", b"not looked at")
    taken(m, "is not read")
    for lacks in (a, b[:1], [HEAD]):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b})
        write_file(m.path("model.safetensors"), {n: zeros(t) for n, t in m.t.items() if n not in lacks})
        taken(m, "model.safetensors lacks what is needed")
    os.remove(m.path("m-2.safetensors"))
    refused(m, 3, INDEX, "m-2.safetensors")


def test_what_the_index_says_of_tensors_that_nothing_needs_is_a_note(d):
    m = Model(d, "qwen3-norm")  # tied: no lm_head is needed
    a, b = m.halves()
    for extra in ({HEAD: "m-1.safetensors"}, {"mtp.fc.weight": "m-2.safetensors", "model.layers.9.x": "m-1.safetensors"},
                  {"visual.a": "m-1.safetensors"}):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b}, extra)
        taken(m, "nothing needs")
    m.shards({"m-1.safetensors": {**{n: m.t[n] for n in a}, "x": ("F32", [1], bytes(4))}, "m-2.safetensors": b}, {"x": "m-2.safetensors"})
    taken(m, "nothing needs", '"x"', strict=False)
    for gone in ("extra.safetensors", "m-3.safetensors", "0.safetensors"):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b}, {HEAD: gone, "y": gone})
        taken(m, f"1 of 3 files missing: {gone}: nothing", strict=False)


def test_what_is_needed_and_not_where_the_index_says_is_refused(d):
    m = Model(d, "qwen3-norm")
    a, b = m.halves()
    for name in (a[0], a[-1], "model.norm.weight" if "model.norm.weight" in a else a[2]):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b}, {name: "m-2.safetensors"})
        refused(m, 3, INDEX, name, "m-2.safetensors but in m-1.safetensors")
        m.shards({"m-1.safetensors": [n for n in a if n != name], "m-2.safetensors": b}, {name: "m-1.safetensors"})
        refused(m, 3, INDEX, name, "m-1.safetensors")
        m.shards({"m-1.safetensors": [n for n in a if n != name], "m-2.safetensors": b})
        refused(m, 3, INDEX, name, "needed and missing")
        m.shards({"m-1.safetensors": [n for n in a if n != name], "m-2.safetensors": b}, {name: "m-3.safetensors"})
        refused(m, 3, INDEX, name, "1 of 3 files missing: m-3.safetensors")


def test_total_size_may_be_anything(d):
    m = Model(d, "qwen3-norm")
    a, b = m.halves()
    for total in ("1234", "many", -1, 1 << 70, 1.5, [1, {"a": 2}], True, 0):
        m.shards({"m-1.safetensors": a, "m-2.safetensors": b}, total=total)
        taken(m, "total_size is " + json.dumps(total)[:10])
    index = json.load(open(m.path(INDEX)))
    for metadata in (None, [], "x", 7, {"total_size": None}):
        m.put(INDEX, dict(index, metadata=metadata))
        taken(m)
    index.pop("metadata")
    m.put(INDEX, index)
    assert "total_size" not in taken(m)


# ---- names ----


def renamed(m, rename):
    m.t = {rename(n): t for n, t in m.t.items()}
    m.save()


def test_one_prefix_for_all_names(d):
    def inside(n):
        return n.removeprefix("model.")

    spellings = (inside, lambda n: "model." + n, lambda n: "model." + n if n[0] == "m" else n,
                 lambda n: "language_model." + n, lambda n: "language_model." + inside(n), lambda n: "language_model." + n if n[0] == "m" else n,
                 lambda n: "model.language_model." + inside(n), lambda n: "model.language_model." + inside(n) if n[0] == "m" else n,
                 lambda n: "model.language_model." + inside(n) if n[0] == "m" else "model." + n, lambda n: n if n[0] == "m" else "model." + n)
    for name in ("mqa-bias", "qwen3-norm", "mistral-window"):
        for rename in spellings:
            m = Model(d, name)
            renamed(m, rename)
            taken(m)
            tpshard("verify", m.dir + ".b", "--against", m.dir, "-q")
    m = Model(d, "qwen3-norm")
    m.t = {**{n.removeprefix("model."): t for n, t in m.t.items()}, "model.norm.weight": ("F32", [2], bytes(8))}
    m.save()
    taken(m, '"model.norm.weight"')
    m = Model(d, "qwen3-norm")  # other parts of the file have other names
    m.t = {**{"language_model." + n: t for n, t in m.t.items()}, "vision_tower.layers.0.q_proj.weight_scale": ("F32", [1], bytes(4)), "model.norm": ("F32", [1], bytes(4))}
    m.save()
    taken(m, "2 tensors are not used")


def test_a_missing_name_comes_with_the_one_that_ends_alike(d):
    up = "model.layers.2.mlp.up_proj.weight"
    for other in ("transformer.layers.2.mlp.up_proj.weight", "layers.2.mlp.up_proj.weight", "Model.Layers.2.MLP.up_proj.weight", "a.b.model.layers.2.mlp.up_proj.weight"):
        m = Model(d, "mqa-bias")
        renamed(m, lambda n: other if n == up else n)
        refused(m, 3, f'tensor "{up}" is needed and missing; "{other}" ends alike')
    for prefix in ("transformer.", "module.model.", "gpt_neox."):
        m = Model(d, "mqa-bias")
        renamed(m, lambda n: prefix + n.removeprefix("model."))
        refused(m, 3, f'tensor "{EMBED}" is needed and missing; "{prefix}embed_tokens.weight" ends alike')
    m = Model(d, "qwen3-norm")
    renamed(m, lambda n: n.removeprefix("model.") if "layers.1" not in n else n)
    refused(m, 3, 'tensor "layers.1.', '"model.layers.1.', "ends alike")
    m = Model(d, "mqa-bias")
    renamed(m, lambda n: n.replace("up_proj", "fc") if n == up else n)
    assert "alike" not in refused(m, 3, up)


def test_an_adapter_in_the_weights_that_is_not_merged_is_a_warning(d):
    m = Model(d, "mqa-bias")
    m.t["visual.blocks.0.lora_A.weight"] = m.t[HEAD]  # nobody's
    m.save()
    taken(m, "1 tensor is not used", "the manifest lists it")
    for side in "AB":
        m.t[f"model.layers.1.self_attn.q_proj.lora_{side}.default.weight"] = m.t[HEAD]
    m.save()
    taken(m, f'"model.layers.1.self_attn.q_proj.lora_A.default.weight" is of an adapter that is not merged', strict=False)


def test_the_shape_of_a_vector_is_one_number(d):
    m = Model(d, "mqa-bias")
    dtype, (n,), raw = m.t["model.norm.weight"]
    m.t["model.norm.weight"] = (dtype, [1, n], raw)
    m.save()
    assert refused(m, 3, f"2 dimensions, 1 x {n}").endswith(f"config.json implies {n}")


def test_weights_of_another_framework_alone_are_named(d):
    for file in ("tf_model.h5", "flax_model.msgpack", "model.onnx"):
        m = Model(d, "mqa-bias")
        m.put(file, b"x")
        taken(m)
        m.clear()
        refused(m, 4, file, "another framework", "safetensors")


# ---- tied heads ----


def test_a_head_that_is_stored_beside_a_tied_embedding_is_taken_if_it_is_the_same(d):
    for name in ("qwen3-norm", "llama3-rope"):
        m = Model(d, name)
        dtype, (rows, cols), raw = m.t[EMBED]
        row = 2 * cols
        heads = (m.t[EMBED], widened(m.t[EMBED]),
                 (dtype, [rows + 61, cols], raw + bytes(61 * row)),            # rows of padding
                 (dtype, [rows + 3, cols], raw + b"\x11" * (3 * row)),         # that the vocabulary does not reach
                 ("F32", [rows + 5, cols], widened(m.t[EMBED])[2] + bytes(5 * 2 * row)))
        for head in heads:
            m.t[HEAD] = head
            m.save()
            taken(m)
            m.t[EMBED], m.t[HEAD] = m.t[HEAD], m.t[EMBED]  # the other one is the padded one, or the wide one
            m.save()
            taken(m, args=("--dtype", {"F16": "f16", "BF16": "bf16"}[dtype]))
            m.t[EMBED] = (dtype, [rows, cols], raw)
        m.t[HEAD] = m.t.pop(EMBED)  # one for both
        m.save()
        taken(m)
        m.t[HEAD] = (dtype, [rows, cols], raw[:-3 * row] + bytes(3 * row))  # rows of the vocabulary that the embedding has not
        m.t[EMBED] = (dtype, [rows - 3, cols], raw[:-3 * row])
        m.save()
        done = tpshard("convert", m.dir, "-o", m.dir + ".pad", "--no-selftest", "--strict", "--force")
        assert b"warning" not in done.stderr


def test_a_head_that_is_another_than_the_tied_embedding_is_refused_by_its_first_row(d):
    m = Model(d, "qwen3-norm")
    dtype, (rows, cols), raw = m.t[EMBED]
    row = 2 * cols
    for at in (0, 7, rows - 1):
        changed = bytearray(raw)
        changed[at * row + 4] ^= 1
        for head in ((dtype, [rows, cols], bytes(changed)), widened((dtype, [rows, cols], bytes(changed))), (dtype, [rows + 2, cols], bytes(changed) + bytes(2 * row))):
            m.t[HEAD] = head
            m.save()
            refused(m, 3, HEAD, f"row {at} ", EMBED, "tie_word_embeddings")
    for head, words in (((dtype, [rows, cols // 2], raw[:len(raw) // 2]), (f"{rows} x {cols // 2}", f"{rows} x {cols}", "tie_word_embeddings")),
                        ((dtype, [rows - 2, cols], raw[:-2 * row]), (f"row {rows - 2}", "tie_word_embeddings")),
                        ((dtype, [rows * cols], raw), (f"{rows} x {cols}", "tie_word_embeddings"))):
        m.t[HEAD] = head
        m.save()
        refused(m, 3, HEAD, *words)
    m.t.pop(HEAD)
    m.t.pop(EMBED)
    m.save()
    refused(m, 3, EMBED, "needed and missing", "tie_word_embeddings of config.json is true")


def test_a_head_or_embedding_that_is_missing_and_not_tied_is_refused(d):
    """transformers makes one up, of random values; tie_word_embeddings is false where it is absent."""
    for value in (False, ..., None):
        m = Model(d, "qwen3-norm")
        m.config(tie_word_embeddings=value)
        refused(m, 3, HEAD, "needed and missing", "tie_word_embeddings of config.json is not true")
        m = Model(d, "mqa-bias")
        m.config(tie_word_embeddings=value)
        m.t.pop(EMBED)
        m.save()
        refused(m, 3, EMBED, "needed and missing", "tie_word_embeddings of config.json is not true")


def test_rows_that_are_not_the_vocabulary_are_refused_with_both_numbers(d):
    """As transformers does."""
    for name, vocab, more in (("qwen3-norm", 512, 16), ("mqa-bias", 512, -12), ("mistral-window", 512, 64)):
        m = Model(d, name)
        m.config(vocab_size=vocab + more)
        refused(m, 3, EMBED, f"{vocab} x", f"{vocab + more} x", "vocab_size")
    m = Model(d, "mqa-bias")
    dtype, (rows, cols), raw = m.t[HEAD]
    m.t[HEAD] = (dtype, [rows + 8, cols], raw + bytes(8 * 4 * cols))
    m.save()
    refused(m, 3, HEAD, f"{rows + 8} x", f"{rows} x", "vocab_size")


# ---- dtypes, quantization ----


def recipe(m):
    bundle = m.dir + ".r"
    tpshard("convert", m.dir, "-o", bundle, "--no-selftest", "--force", "-q")
    return json.load(open(bundle + "/manifest.json"))["recipe"]["dtype"]


def test_where_config_names_no_dtype_the_widest_of_what_is_used_counts(d):
    for name, own in (("qwen3-norm", "f16"), ("mistral-window", "bf16"), ("mqa-bias", "f32")):
        for nothing in ({}, {"torch_dtype": "auto"}, {"dtype": None}):
            m = Model(d, name)
            m.config(**{"torch_dtype": ..., "dtype": ..., **nothing})
            m.t["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [2], bytes(8))
            m.t["ids"] = ("I64", [1], bytes(8))
            m.save()
            assert recipe(m) == own
    m = Model(d, "mistral-window")
    m.config(torch_dtype=..., dtype=...)
    m.t["model.norm.weight"] = widened(m.t["model.norm.weight"])
    m.save()
    assert recipe(m) == "f32"


def test_quantization_is_decided_by_the_weights_of_the_model(d):
    leftovers = ({"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "fp8"}, {"unknown": 1}, "int8", [8], True)
    for key in ("quantization_config", "compression_config"):
        for config in leftovers:
            m = Model(d, "mqa-bias")
            m.config(**{key: config})
            taken(m, "the tensors are plain")
        for config in ({}, [], False, None):
            m = Model(d, "mqa-bias")
            m.config(**{key: config})
            taken(m)
    weights = {"weights": {"num_bits": 8}, "input_activations": None}
    for config, word in (({"quant_method": "bitnet", "quantization_mode": "online"}, "bitnet"), ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
                         ({"transform_config": {"config_groups": {"R1": {}}}}, "transform_config"),
                         ({"config_groups": {"group_0": weights, "group_1": {"input_activations": {"dynamic": True}}}}, "input_activations")):
        m = Model(d, "mqa-bias")
        m.config(quantization_config={"quant_method": "compressed-tensors", **config})
        refused(m, 4, word, "though the tensors are plain")
    m = Model(d, "mqa-bias")
    m.config(quantization_config={"quant_method": "compressed-tensors", "config_groups": {"group_0": weights}, "transform_config": {}, "kv_cache_scheme": None})
    taken(m, "the tensors are plain")
    m.t["model.embed_tokens.weight_scale"] = ("F32", [1], bytes(4))
    m.save()
    refused(m, 4, "quantized checkpoint")
    m = Model(d, "mqa-bias")
    m.put("quantize_config.json", {"bits": 4})
    taken(m)
    m.t["visual.blocks.0.q_proj.qweight"] = ("U8", [4], b"abcd")
    m.t["model.layers.7.mlp.up_proj.scales"] = ("F16", [2], bytes(4))  # beyond the layers
    m.save()
    taken(m, "2 tensors are not used")
    m.t["model.layers.1.mlp.up_proj.scales"] = ("F16", [2], bytes(4))
    m.save()
    refused(m, 4, "quantize_config.json")


# ---- config.json ----


def test_integers_of_any_size_where_they_mean_nothing(d):
    for key, value in (("model_max_length", 10**30), ("max_length", -10**30), ("task_specific_params", {"a": [10**19, 10**400]}), ("_x", 2**64), ("label2id", {"x": 10**25})):
        m = Model(d, "mqa-bias")
        m.config(**{key: value})
        taken(m)
        tpshard("verify", m.dir + ".b", "-q")
        tpshard("export", m.dir + ".b", "-o", m.dir + ".hf", "-q", "--force")
        assert json.load(open(m.dir + ".hf/config.json"))[key] == value
    for key in ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "eos_token_id"):
        for value in (10**30, -10**19, 10**400):
            m = Model(d, "mqa-bias")
            m.config(**{key: value})
            refused(m, 3, "config.json", key, "a number beyond 64 bits")


def rope_of(bundle):
    return json.load(open(bundle + "/manifest.json"))["model"]["rope"]


def test_rope_scaling_and_rope_parameters(d):
    """Both: rope_scaling wins where they differ."""
    config = json.load(open(checkpoint("yarn") + "/config.json"))
    v4, theta = config["rope_scaling"], config["rope_theta"]
    harness.convert(checkpoint("yarn"), d + "/plain")
    for parameters in (dict(v4), dict(v4, rope_theta=theta), dict({k: v for k, v in v4.items() if "type" not in k}, type="yarn", beta_fast=32), {}, None):
        m = Model(d, "yarn")
        m.config(rope_parameters=parameters)
        assert "rope_" not in taken(m)
    for parameters, keys in ((dict(v4, factor=2.0), "factor"), (dict(v4, rope_theta=5e5), "rope_theta"), ({"rope_type": "default"}, "rope_type"), (dict(v4, truncate=None), "truncate")):
        m = Model(d, "yarn")
        m.config(rope_parameters=parameters)
        taken(m, "rope_scaling and rope_parameters differ in", keys)
        assert rope_of(m.dir + ".b") == rope_of(d + "/plain")
    m = Model(d, "yarn")
    m.config(rope_scaling=..., rope_parameters=dict(v4, rope_theta=theta), rope_theta=...)
    taken(m)
    assert rope_of(m.dir + ".b") == rope_of(d + "/plain")


def test_what_config_json_may_have(d):
    for changes in ({"torch_dtype": "auto"}, {"dtype": {"": "float32"}, "torch_dtype": ...}, {"torch_dtype": "float"}, {"architectures": "LlamaForCausalLM"},
                    {"pad_token_id": -1}, {"eos_token_id": [2, 3]}, {"eos_token_id": None}, {"architectures": None}):
        m = Model(d, "mqa-bias")
        m.config(**changes)
        taken(m)
    m = Model(d, "mqa-bias")
    for beside in ("pytorch_model.bin", "consolidated.safetensors", "adapter_model.safetensors", "original/consolidated.00.pth", "README.md"):
        m.put(beside, b"nothing that is read")
    taken(m)
    os.rename(m.path("model.safetensors"), m.path("model-00001-of-00001.safetensors"))
    taken(m)
    m.put("adapter_config.json", {})
    taken(m, "the adapter is left out", strict=False)
    m = Model(d, "mqa-bias")
    os.makedirs(d + "/blobs", exist_ok=True)
    os.rename(m.path("model.safetensors"), d + "/blobs/0")
    os.symlink("../blobs/0", m.path("model.safetensors"))
    taken(m)
    m.t["nothing"] = ("F32", [0, 7], b"")
    m.save()
    taken(m)


def test_a_link_that_leads_nowhere_is_named(d):
    """As a download that was cut short leaves it; by convert, with --follow-links and by verify --against."""
    harness.convert(checkpoint("mqa-bias"), d + "/bundle")
    for file in ("model.safetensors", "m-2.safetensors", INDEX, "config.json", "tokenizer.json", "generation_config.json", "additional_chat_templates/a.jinja"):
        for target in ("../../blobs/0", os.path.basename(file)):  # nothing, itself
            m = Model(d, "mqa-bias")
            if file in ("m-2.safetensors", INDEX):
                m.shards({"m-1.safetensors": m.halves()[0], "m-2.safetensors": m.halves()[1]})
            m.put(file, b"")
            os.remove(m.path(file))
            os.symlink(target, m.path(file))
            status, words = 3, (file, "is a link that leads nowhere", "hf download again")
            if "/" not in target:
                status, words = 5, (file, "Too many levels of symbolic links")
            refused(m, status, *words)
            refused(m, status, *words, args=("--follow-links",))
            error_line(tpshard("verify", d + "/bundle", "--against", m.dir, status=None), status, *words)


def test_a_missing_rms_norm_eps_is_the_default_of_transformers(d):
    for name in ("qwen3-norm", "llama3-rope"):
        m = Model(d, name)
        m.config(rms_norm_eps=...)
        done = tpshard("convert", m.dir, "-o", m.dir + ".b", "--no-selftest", "--strict", "--force")
        assert b"no rms_norm_eps: 1e-6 is taken" in done.stderr, done.stderr
        model = json.load(open(m.dir + ".b/manifest.json"))["model"]
        assert 1e-6 in model.values(), model


# ---- files that are something else ----

KINDS = ((b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a Git LFS pointer, not the file: run git lfs pull"),
         (b"<!DOCTYPE html>\n<html>", "is an HTML page, not %s: the download failed; fetch it again"), (b"\n <HTML><head>", "is an HTML page"),
         (b"<?xml version='1.0'?><Error/>", "XML"), (b"Entry not found", "is an error of the Hub"), (b"\x1f\x8b\x08\0\0\0\0\0\0\0", "is gzip data"),
         (b"PK\x03\x04aaaaaaaaaaaa", "is a zip archive"), (b"\x80\x02}q\0.........", "is a Python pickle"), (b"GGUF\x03\0\0\0\0\0\0\0", "is a GGUF file"))


def test_a_file_that_is_something_else_is_named_for_what_it_is(d):
    for data, words in KINDS:
        for file, form in (("config.json", "JSON"), ("model.safetensors", "safetensors"), (INDEX, "JSON"), ("m-1.safetensors", "safetensors")):
            m = Model(d, "mqa-bias")
            if file in (INDEX, "m-1.safetensors"):
                m.shards({"m-1.safetensors": list(m.t)})
            m.put(file, data)
            refused(m, 3, file, words % form if "%" in words else words)
            if file == "config.json":
                error_line(tpshard("plan", m.dir, status=None), 3, file, words % form if "%" in words else words)
    for file in ("config.json", INDEX):
        for bom, words in ((b"\xef\xbb\xbf", "begins with a byte order mark (BOM): save it as UTF-8 without"), (b"\xff\xfe", "UTF-16")):
            m = Model(d, "mqa-bias")
            if file == INDEX:
                m.shards({"m-1.safetensors": list(m.t)})
            m.put(file, bom + open(m.path(file), "rb").read())
            refused(m, 3, file, words)


# ---- what is named in place of a folder ----


def named(path, status, *words, cwd=None, but=()):
    """convert, plan, tokenizer and verify --against say the same."""
    with Folder() as d:
        harness.convert(harness.DEMO, d + "/bundle")
        for command in (("convert", path, "-o", d + "/b"), ("plan", path), ("tokenizer", path, "-o", d + "/t"), ("verify", d + "/bundle", "--against", path)):
            if command[0] in but:
                continue
            error_line(harness.run([harness.TPSHARD, *command], None, cwd=cwd), status, *words)


def test_a_name_of_the_hub_is_told_how_to_get_it(d):
    d += "/here"  # beside which nothing stands
    os.mkdir(d)
    for path, name in (("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"), ("https://huggingface.co/a/b_c.d", "a/b_c.d"), ("hf://meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
                       ("https://huggingface.co/a/b/tree/main", "a/b"), ("hf.co/a/b", "a/b"), ("a/b@main", "a/b"), ("a/b-GGUF:Q4_0", "a/b-GGUF")):
        named(path, 5, "no such folder", f"hf download {name} --local-dir DIR", cwd=d)
    os.makedirs(d + "/models")
    for path in ("models/qwen", "none", "./a/b", "a/b/c", "/a/b", d + "/none", "a/", "../x"):
        with Folder() as tmp:
            line = error_line(harness.run([harness.TPSHARD, "convert", path, "-o", tmp + "/b"], None, cwd=d), 5, "no such folder")
            assert "hf download" not in line, line


def test_a_file_is_told_to_name_its_folder(d):
    m = Model(d, "yarn")
    m.shards({"m-1.safetensors": list(m.t)})
    for file in ("m-1.safetensors", INDEX):
        named(m.path(file), 3, "is no folder; name the one that it is in: " + m.dir)
    named(m.path("config.json"), 3, "is no folder; name the one that it is in: " + m.dir, but=("plan",))
    tpshard("plan", m.path("config.json"))
    named("m-1.safetensors", 3, "name the one that it is in: .", cwd=m.dir)


def test_gguf_is_told_to_get_the_original(d):
    os.makedirs(d + "/g")
    for file in ("m-q4.gguf", "M.GGUF", "g/x.gguf"):
        open(os.path.join(d, file), "wb").write(b"GGUF\x03\0\0\0")
        named(os.path.join(d, file), 4, "tpshard reads safetensors, not GGUF: get the original model folder")
    named(d + "/g", 4, "not GGUF")


def test_a_folder_of_the_hubs_cache_is_told_where_the_model_is(d):
    cache = d + "/models--a--b"
    for sub in ("blobs", "refs", "snapshots"):
        os.makedirs(f"{cache}/{sub}")
    named(cache, 3, f"{cache}/snapshots/REVISION")
    shutil.copytree(checkpoint("yarn"), cache + "/snapshots/0123")
    named(cache, 3, f"name the model in it: {cache}/snapshots/0123")
    named(cache + "/snapshots", 3, f"name {cache}/snapshots/0123")
    shutil.copytree(checkpoint("yarn"), cache + "/snapshots/4567")
    named(cache, 3, f"{cache}/snapshots/REVISION")
    for text in ("4567", "4567\n"):
        open(cache + "/refs/main", "w").write(text)
        named(cache + "/", 3, f"name the model in it: {cache}/snapshots/4567")
    open(cache + "/refs/main", "w").write("89ab")
    named(cache, 3, f"{cache}/snapshots/REVISION")


def test_a_folder_above_the_model_is_told_its_name(d):
    for i, name in enumerate(("model", "b", "a")):
        shutil.copytree(checkpoint("yarn"), f"{d}/up/{name}")
        named(d + "/up", 3, "no config.json here", f"name {d}/up/{('model', 'b', 'a')[i]}", "folders" if i else "a folder")
    os.makedirs(d + "/empty/original")
    named(d + "/empty", 3, "no model here: there is no config.json")


def test_an_adapter_is_told_to_be_merged(d):
    os.makedirs(d + "/ad")
    open(d + "/ad/adapter_config.json", "w").write("{}")
    for file in ("adapter_model.safetensors", "adapter_model.bin", "README.md"):
        open(f"{d}/ad/{file}", "w").close()
        named(d + "/ad", 4, "holds an adapter", "merge_and_unload")
    m = Model(d, "yarn")  # with a config.json, as some tools leave one
    os.rename(m.path("model.safetensors"), m.path("adapter_model.safetensors"))
    refused(m, 4, "holds an adapter", "merge_and_unload")
    open(m.path("pytorch_model.bin"), "w").close()
    refused(m, 4, "merge_and_unload")


harness.main(globals())
