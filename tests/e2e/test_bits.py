"""One answer: the same bits at every degree, thread count, instruction set, prefill chunk, batch and reshard.

Compared are the logits of every prompt position and the hash of the f32 residual after every layer (which shows
what rounding to bf16 would hide), of prompts of 1 to 72 tokens and of tokens generated after them. The reference is
plain C, one thread, one rank, the whole prompt at once, each prompt alone.
"""
import functools
import itertools
import json
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import read_tokenizer
from harness import BUILD, Folder, checkpoint, run, synthetic, tprun, tpshard

DEGREES, THREADS, CHUNKS = (1, 2, 3, 5, 7, 8, 16), (1, 2, 3, 5), (1, 7, 33, 4096)
NEW = 5  # tokens generated after each prompt
COMBINATIONS = 100 // harness.SHARE


@functools.lru_cache(None)
def isas():
    """Those this machine has, the best last; the others are named."""
    known = ("scalar", "avx2", "avx512", "avx512bf16", "amx")
    here = json.loads(tprun("info", "--json").stdout)["cpu"]["kernels"]
    assert set(here) <= set(known), here
    for isa in known:
        if isa not in here:
            print(f"SKIP isa {isa}: not on this machine")
    return [isa for isa in known if isa in here]


class Case:
    """A model with a recipe, its bundles by degree, and the reference."""

    def __init__(self, folder, name, model, recipe=(), lengths=(1, 7, 72, 33, 40)):
        self.folder, self.name, self.model, self.recipe = os.path.join(folder, name), name, model, recipe
        os.makedirs(self.folder)
        vocab = json.load(open(os.path.join(model, "config.json")))["vocab_size"]
        rng = random.Random(11)
        self.prompts = [[1] + [rng.randrange(3, vocab) for _ in range(n - 1)] for n in lengths]
        self.jsonl = os.path.join(self.folder, "prompts.jsonl")
        with open(self.jsonl, "w") as f:
            for i, ids in enumerate(self.prompts):
                f.write(json.dumps({"id": str(i), "prompt_ids": ids, "n": NEW}) + "\n")
        machine = dict(threads=1, isa="scalar", chunk=4096)
        self.want_logits, self.want = [], []
        for i in range(len(self.prompts)):
            self.want_logits.append(self.logits(self.bundle(1, None), 1, i, machine))
            self.want.append(self.generate(self.bundle(1, None), 1, i, machine))

    @functools.lru_cache(None)
    def bundle(self, tp, via):
        path = os.path.join(self.folder, f"tp{tp}" + (f"-via{via}" if via else ""))
        if via:
            tpshard("reshard", self.bundle(via, None), "-o", path, "--tp", tp, "-q")
        else:
            harness.convert(self.model, path, "--tp", tp, *self.recipe)
        return path

    def ask(self, program, bundle, tp, what, machine, args):
        """Run, and read from the report that what was asked for was in use."""
        trace = os.path.join(self.folder, "trace")
        nodes = machine.get("nodes")  # of a machine that hwloc is told of: ranks and threads are in crews
        env = dict(os.environ, HWLOC_SYNTHETIC=f"numa:{nodes} core:6 pu:1") if nodes else None
        done = run([program, what[0], bundle, *what[1:], "--trace", trace, "--report", "json", "--threads", machine["threads"],
                    "--isa", machine["isa"], "--chunk", machine["chunk"], *(("--pin", "yes") if nodes else ()), *args], env=env)
        report = json.loads(next(l for l in done.stderr.decode().splitlines() if l.startswith("{")))
        said = report["kernels"], report["threads"], report["chunk"], report["tp"]
        assert said == (machine["isa"], machine["threads"], machine["chunk"], tp), said
        assert [r["file"] for r in report["ranks"]] == [f"rank-{r:03}-of-{tp:03}.tps" for r in range(tp)]
        for r in report["ranks"]:
            assert r["file_bytes"] == r["planned_file_bytes"] == os.path.getsize(os.path.join(bundle, r["file"])), r
            assert r["used_bytes"] <= r["planned_bytes"], r
        hashes = {}
        for line in open(trace):
            sequence, layer, value = line.split()
            hashes.setdefault(int(sequence), []).append((layer, value))
        return done, hashes

    def source(self, i):
        return ["--prompts", self.jsonl] if i is None else ["--prompt-ids", ",".join(map(str, self.prompts[i]))]

    def logits(self, bundle, tp, i, machine, program=None):
        """(bytes, hashes by sequence) of prompt i, of all in one call where i is None"""
        out = os.path.join(self.folder, "logits")
        _, hashes = self.ask(program or harness.TPRUN, bundle, tp, ["logits", *self.source(i)], machine, ["-o", out])
        return open(out, "rb").read(), hashes

    def generate(self, bundle, tp, i, machine, program=None):
        """(ids by sequence, hashes by sequence)"""
        done, hashes = self.ask(program or harness.TPRUN, bundle, tp, ["generate", *self.source(i)], machine,
                                ["-n", NEW, "--json", "--temp", "0", "--ignore-eos"])
        return [json.loads(l)["ids"] for l in done.stdout.splitlines()], hashes

    def check(self, tp, i, via=None, program=None, **machine):
        """Everything equal to the reference: prompt i alone, or all five in one batch where i is None."""
        machine = {**dict(threads=2, isa=isas()[-1], chunk=4096), **machine}
        bundle, what = self.bundle(tp, via), (self.name, tp, i, via, machine)
        picked = range(len(self.prompts)) if i is None else [i]
        got, hashes = self.logits(bundle, tp, i, machine, program)
        assert got == b"".join(self.want_logits[p][0] for p in picked), f"logits differ: {what}"
        for s, p in enumerate(picked):
            assert hashes[s] == self.want_logits[p][1][0], f"residual of a prompt differs: {what}"
        ids, hashes = self.generate(bundle, tp, i, machine, program)
        for s, p in enumerate(picked):
            assert ids[s] == self.want[p][0][0], f"ids differ: {what}"
            assert hashes[s] == self.want[p][1][0], f"residual of generated tokens differs: {what}"


def axes(case, degrees=(1, 3, 8)):
    """Each axis alone."""
    for tp in degrees:
        for threads in THREADS:
            case.check(tp, 2, threads=threads)
        for isa in isas():
            case.check(tp, 2, isa=isa)
        for chunk in CHUNKS:
            case.check(tp, 2, chunk=chunk)
        case.check(tp, None)
        case.check(tp, 2, via=5)


F32 = ("mqa-bias", "mixed-dtype")
INT4 = {f"int4-g{group}-{offset}": ("--quant", "int4", "--group", group, "--offset", offset)
        for group in (32, 64, 128) for offset in ("none", "zero", "min")}
RECIPES = (("keep", ()), ("int8", ("--quant", "int8")), ("fp8", ("--quant", "fp8")), ("f32", ("--dtype", "f32")),
           ("f16", ("--dtype", "f16")), *((name, INT4[name]) for name in ("int4-g32-none", "int4-g64-zero", "int4-g128-min")))


def test_each_axis_alone():
    with Folder() as d:
        for name in ("mqa-bias", "qwen3-norm", "llama3-rope") if harness.SHARE == 1 else ("mqa-bias",):
            case = Case(d, name, checkpoint(name))
            axes(case, (1, 3, 8) if harness.SHARE == 1 else (3,))


def test_every_degree_of_every_checkpoint():
    with Folder() as d:
        for name, model in harness.float_checkpoints():
            case = Case(d, name, model)
            for tp in DEGREES if harness.SHARE == 1 else (1, 5):
                case.check(tp, 2)
                case.check(tp, None, chunk=33)


def test_quantized_weights_at_every_degree():
    with Folder() as d:
        for name in ("qwen2-bias", "mqa-bias") if harness.SHARE == 1 else ("qwen2-bias",):
            for quant in ("int8", "fp8"):
                case = Case(d, f"{name}-{quant}", checkpoint(name), ("--quant", quant))
                axes(case, (1, 3, 8) if harness.SHARE == 1 else (3,))
                case.check(16, None)


def test_groups_of_columns_at_every_degree():
    """int4: every recipe with every number of threads, instruction set and chunk. These are dealt out over models whose
    leaves cut groups, degrees, prompts alone and in one batch, fresh bundles and resharded ones."""
    degrees = (1, 2, 3, 5, 7, 8)
    machines = [dict(threads=t, isa=isa, chunk=c) for t, isa, c in itertools.product(THREADS, isas(), CHUNKS)]
    with Folder() as d:
        wide = synthetic(d + "/s-wide", head_dim=80, hidden_size=72, intermediate_size=1601, num_hidden_layers=1)
        narrow = synthetic(d + "/s-narrow", num_attention_heads=5, num_key_value_heads=1, head_dim=48, intermediate_size=300)
        for at, (label, recipe) in enumerate(list(INT4.items())[::harness.SHARE]):
            fixture, its = (("llama3-rope", "bf16"), ("qwen2-bias", "f16"))[at % 2]
            random.Random(at).shuffle(machines)
            deal = itertools.cycle(machines)
            for name, model, dtype in (("wide", wide, "bf16"), ("narrow", narrow, "f32"), (fixture, checkpoint(fixture), its)):
                case = Case(d, f"{name}-{label}", model, (*recipe, "--dtype", dtype), lengths=(1, 56, 40))
                for i, tp in enumerate(degrees):
                    case.check(tp, i % 3, **next(deal))
                    case.check(tp, None, **next(deal))
                    case.check(tp, 2, via=degrees[i - 1], **next(deal))


def test_random_combinations():
    rng = random.Random(20)
    names = [n for n, _ in harness.float_checkpoints()]
    with Folder() as d:
        cases = {}
        for _ in range(COMBINATIONS):
            name, (label, recipe) = rng.choice(names), rng.choice(RECIPES)
            tp, via = rng.choice(DEGREES), rng.choice((None, None, None, 2, 3, 7))
            key = f"{name}-{label}"
            if key not in cases:
                cases[key] = Case(d, key, checkpoint(name), recipe)
            cases[key].check(tp, rng.choice((None, 0, 1, 2, 3, 4)), via=via, threads=rng.choice(THREADS),
                             isa=rng.choice(isas()), chunk=rng.choice(CHUNKS), nodes=rng.choice((None, None, 2, 3)))


def test_three_chunks_and_one_position_of_cache():
    """769 positions: the last alone in its chunk; a window that begins inside one; the same for decode across the edge.
    Two KV heads and up to eight threads, which share chunks."""
    with Folder() as d:
        for label, changes in (("full", {}), ("window", dict(architectures=["MistralForCausalLM"], model_type="mistral",
                                                             sliding_window=300))):
            case = Case(d, label, synthetic(f"{d}/s-{label}", **changes), lengths=(769, 253))
            for tp, i, machine in ((1, 0, {}), (3, 0, dict(chunk=33)), (2, None, dict(chunk=7, threads=3)),
                                   (4, None, dict(isa="scalar")), (3, 1, dict(chunk=256)),
                                   *((1 + t % 2, (None, 0)[t // 2 % 2], dict(threads=t)) for t in range(1, 9)),
                                   (2, None, dict(threads=4, nodes=2)), (4, 0, dict(threads=5, nodes=2))):
                case.check(tp, i, **machine)


def test_shapes_no_fixture_has():
    """More than 64 heads (two to a leaf, the last alone), odd widths, fewer panels than ranks, head_dim 2."""
    with Folder() as d:
        for label, changes in (
                ("heads", dict(num_attention_heads=67, num_key_value_heads=1, head_dim=6, intermediate_size=1601)),
                ("tiny", dict(num_attention_heads=3, num_key_value_heads=3, head_dim=2, intermediate_size=5,
                              hidden_size=33, vocab_size=17)),
                ("wide", dict(num_attention_heads=6, num_key_value_heads=3, head_dim=40, intermediate_size=2000,
                              hidden_size=130, vocab_size=1000))):
            case = Case(d, label, synthetic(f"{d}/s-{label}", **changes), lengths=(1, 7, 40))
            for tp in (2, 3, 7, 48):
                case.check(tp, None, chunk=7, threads=3)
                case.check(tp, 2, isa="scalar")


def times_power_of_two(model, parts, power):
    """Of the bf16 tensors with such parts in their names, values that are not 0 get another exponent."""
    with open(model + "/model.safetensors", "r+b") as f:
        data = bytearray(f.read())
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        for name, tensor in json.loads(data[8:begin]).items():
            if any(part in name for part in parts):
                assert tensor["dtype"] == "BF16", name
                for at in range(*(begin + offset for offset in tensor["data_offsets"]), 2):
                    bits, = struct.unpack_from("<H", data, at)
                    struct.pack_into("<H", data, at, bits + (power << 7) if bits & 0x7fff else bits)
        f.seek(0)
        f.write(data)


def test_rows_near_the_ends_of_f32():
    """What enters a matrix is tiny, or huge, its weights the inverse: sums of it that are kept larger than they are would not fit."""
    with Folder() as d:
        for power in (-118, 98):
            model = synthetic(f"{d}/s{power}", torch_dtype="bfloat16", num_hidden_layers=1)
            times_power_of_two(model, ("layernorm.weight",), power)
            times_power_of_two(model, ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), -power)
            for label, recipe in (("int8", ("--quant", "int8")), *((n, INT4[n]) for n in ("int4-g32-none", "int4-g64-zero"))):
                case = Case(d, f"{power}-{label}", model, recipe, lengths=(1, 33))
                for tp in (1, 3):
                    case.check(tp, 0)
                    case.check(tp, 1)


def test_recorded_results_are_those_of_the_model():
    """selftest.json: the residual stream as --trace has it, logits as `logits` writes them, and a change of either is named."""
    with Folder() as d:
        harness.convert(checkpoint("yarn"), d + "/b", "--tp", "2", selftest=True)
        recorded = json.load(open(d + "/b/selftest.json"))["prompts"]
        vocab, seen = json.load(open(d + "/b/config.json"))["vocab_size"], set()
        for prompt in recorded:
            ids = ",".join(map(str, prompt["prompt_ids"]))
            tprun("logits", d + "/b", "--prompt-ids", ids, "-o", d + "/l", "--trace", d + "/t", "-q")
            assert prompt["layers"] == [line.split()[2] for line in open(d + "/t")]
            logits = open(d + "/l", "rb").read()
            assert len(prompt["positions"]) == len(prompt["prompt_ids"]) == len(logits) // (4 * vocab)
            for i, position in enumerate(prompt["positions"]):
                row = logits[4 * vocab * i:4 * vocab * (i + 1)]
                assert position["logits"] == read_tokenizer.xxh3_128(row).hex()
            seen.update(prompt["layers"])
        assert len(seen) == sum(len(p["layers"]) for p in recorded)


def test_ranks_that_come_in_any_order():
    """Before every meeting each rank waits a random time: whoever comes first, the bits are the same."""
    program = os.path.join(BUILD, "tests", "tprun_delayed")
    with Folder() as d:
        case = Case(d, "qwen3-norm", checkpoint("qwen3-norm"), lengths=(1, 7, 33))
        try:
            for seed in range(24 // harness.SHARE + 1):
                os.environ["DELAYS"] = str(seed)
                for tp, threads, what in ((3, 3, 1), (5, 5, None), (3, 6, 2)):
                    case.check(tp, what, threads=threads, program=program)
        finally:
            del os.environ["DELAYS"]
        done = run([program, "generate", case.bundle(3, None), "--prompt-ids", "1,2,3", "-n", "40", "--ignore-eos", "-q", "--threads", "3"])
        counts = [int(n) for n in done.stderr.decode().rsplit("first to come:", 1)[1].split()]
        print(f"    first to come, of three: {counts}")
        assert len(counts) == 3 and min(counts) > sum(counts) // 8, counts


def test_kernels_for_tiles_where_there_is_no_tile_unit():
    """--isa amx of a runtime that has the unit in memory, where the machine has none: leaves, groups, runs of panels."""
    program = os.path.join(BUILD, "tests", "tprun_tiles")
    with Folder() as d:
        wide = synthetic(d + "/s-wide", head_dim=80, hidden_size=72, intermediate_size=1601, num_hidden_layers=1)
        recipes = [r for r in RECIPES if r[0] not in ("f32", "f16")]
        for at, (label, recipe) in enumerate(recipes[::min(harness.SHARE, 2)]):
            for name, model in (("wide", wide), ("llama3-rope", checkpoint("llama3-rope")))[:1 if at else 2]:
                case = Case(d, f"{name}-{label}", model, (*recipe, "--dtype", "bf16"), lengths=(1, 9, 140))
                for tp, i, chunk in ((1, 2, 4096), (3, None, 33), (2, 1, 4096)):
                    case.check(tp, i, isa="amx", chunk=chunk, program=program)


def test_a_reordered_kernel_is_seen():
    """The comparison itself: a runtime that sums one chain in place of two must fail it, in every f32 model."""
    program = os.path.join(BUILD, "tests", "tprun_reordered")
    with Folder() as d:
        for name in F32:
            case = Case(d, name, checkpoint(name))
            case.check(3, 2, isa="scalar")
            try:
                case.check(3, 2, isa="scalar", program=program)
            except AssertionError as why:
                assert "differ" in str(why), why
            else:
                raise AssertionError(f"{name}: the reordered kernel was not noticed")


harness.main(globals())
