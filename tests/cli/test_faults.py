"""Bad input at the programs' edge: one line, the contract's exit code, nothing lost, memory within its bound."""
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, checkpoint, convert, error_line, opened, run, synthetic, tprun, tpshard


def read_safetensors(path):
    data = open(path, "rb").read()
    n = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8:8 + n]), bytearray(data[8 + n:])


def write_safetensors(path, header, body):
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


class Model(Folder):
    """A copy of a small checkpoint, to be damaged."""

    def __init__(self, name="mqa-bias"):
        self.name = name

    def __enter__(self):
        self.dir = super().__enter__()
        self.model, self.bundle = os.path.join(self.dir, "m"), os.path.join(self.dir, "b")
        shutil.copytree(checkpoint(self.name), self.model)
        self.weights = os.path.join(self.model, "model.safetensors")
        return self

    def config(self, **changes):
        path = os.path.join(self.model, "config.json")
        config = json.load(open(path))
        config.update(changes)
        json.dump({k: v for k, v in config.items() if v is not ...}, open(path, "w"))

    def header(self, change):
        header, body = read_safetensors(self.weights)
        change(header, body)
        write_safetensors(self.weights, header, body)

    def refused(self, status, *names, args=()):
        line = error_line(convert(self.model, self.bundle, *args, status=None), status, *names)
        assert not os.path.exists(self.bundle) and not os.path.exists(self.bundle + ".partial")
        return line


def rename_tensor(old, new):
    def change(header, body):
        header[new] = header.pop(old)
    return change


def test_a_needed_tensor_that_is_absent_is_named():
    with Model() as m:
        m.header(rename_tensor("model.layers.1.mlp.up_proj.weight", "other"))
        m.refused(3, "model.layers.1.mlp.up_proj.weight")


def test_more_layers_than_tensors_are_refused_before_allocation():
    for layers in (4, 1000, 1000000000):
        with Model() as m:
            m.config(num_hidden_layers=layers)
            m.refused(3, "model.layers.3." if layers < 2000 else "num_hidden_layers")


def test_sizes_that_disagree_with_the_tensors_are_refused_with_both_numbers():
    for key, value, names in (("vocab_size", 600, ("embed_tokens", "600", "512")), ("hidden_size", 128, ("128", "112")),
                              ("head_dim", 32, ("q_proj", "224", "112")), ("intermediate_size", 320, ("gate_proj", "320", "300"))):
        with Model() as m:
            m.config(**{key: value})
            m.refused(3, *names)


def test_tied_embeddings_with_another_head_are_refused():
    with Model() as m:
        m.config(tie_word_embeddings=True)
        m.refused(3, "lm_head.weight")
    with Model() as m:  # the same values are no contradiction
        m.config(tie_word_embeddings=True)

        def tie(header, body):
            a, b = (header[n]["data_offsets"] for n in ("model.embed_tokens.weight", "lm_head.weight"))
            body[b[0]:b[1]] = body[a[0]:a[1]]

        m.header(tie)
        convert(m.model, m.bundle)


def test_values_that_are_no_numbers_are_refused_by_place():
    with Model() as m:
        def poison(header, body):
            at = header["model.layers.2.self_attn.o_proj.weight"]["data_offsets"][0] + 4 * (112 * 5 + 7)
            body[at:at + 4] = struct.pack("<f", float("nan"))
        m.header(poison)
        m.refused(3, "model.layers.2.self_attn.o_proj.weight", "row 5", "column 7")


def test_values_beyond_f16_are_refused():
    with Model() as m:
        def enlarge(header, body):
            at = header["model.layers.0.mlp.down_proj.weight"]["data_offsets"][0]
            body[at:at + 4] = struct.pack("<f", 70000.0)
        m.header(enlarge)
        m.refused(3, "model.layers.0.mlp.down_proj.weight", args=("--dtype", "f16"))
        convert(m.model, m.bundle, "--dtype", "bf16")


def test_quantized_checkpoints_are_refused_by_their_scheme():
    seen = 0
    for name in ("fp8-block", "ct-int8", "ct-fp8", "ct-w4a16", "gptq-g128", "gptq-actorder", "awq-g64"):
        try:
            model = checkpoint(name)
        except Skip as why:
            print(f"SKIP {name}: {why}")
            continue
        with Folder() as d:
            line = error_line(convert(model, d + "/b", status=None), 4)
            assert {"f": "fp8", "c": "compressed-tensors", "g": "gptq", "a": "awq"}[name[0]] in line.lower(), line
            seen += 1
    if not seen:
        raise Skip("no quantized checkpoint is here")


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def add_tensor(name, dtype, shape, raw):
    def change(header, body):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    return change


def test_plain_tensors_under_a_config_that_names_a_quantization_are_converted_with_a_note():
    with Model() as m:
        convert(m.model, m.dir + "/want")
        m.config(quantization_config=GPTQ)
        done = tpshard("convert", m.model, "-o", m.bundle, "--no-selftest")
        notes = [l for l in done.stderr.decode().splitlines() if "plain" in l]
        assert len(notes) == 1 and notes[0].startswith("tpshard: note: ") and "gptq 4-bit" in notes[0], done.stderr
        tpshard("verify", m.bundle, "--against", m.model, "-q")
        found, want = ({t["name"]: t["hash"] for t in json.load(open(b + "/manifest.json"))["ranks"][0]["tensors"]} for b in (m.bundle, m.dir + "/want"))
        assert found == want
        os.rename(m.bundle, m.dir + "/plain")
        m.header(add_tensor("model.layers.1.mlp.up_proj.scales", "F16", [2], bytes(4)))
        m.refused(4, "gptq 4-bit")


def test_quantized_tensors_under_a_config_that_does_not_say_so_are_refused_by_name():
    up = "model.layers.1.mlp.up_proj."
    for changes in ([add_tensor(up + "weight_scale", "F32", [300, 1], bytes(1200))], [add_tensor(up + "qweight", "I32", [2, 2], bytes(16)), rename_tensor(up + "weight", "other")],
                    [add_tensor(up + "weight_packed", "I32", [2, 2], bytes(16))], [add_tensor(up + "weight.absmax", "F32", [4], bytes(16))],
                    [rename_tensor(up + "weight", "other"), add_tensor(up + "weight", "F8_E4M3", [300, 112], bytes(300 * 112))]):
        with Model() as m:
            for change in changes:
                m.header(change)
            m.refused(4, up, "config.json names no quantization")
    for name in ("q_proj.lora_A.weight", "rotary_emb.inv_freq"):  # what a model does not use is a note, as ever
        with Model() as m:
            m.header(add_tensor("model.layers.0.self_attn." + name, "F32", [112], bytes(448)))
            assert b"1 tensor is not used" in tpshard("convert", m.model, "-o", m.bundle, "--no-selftest").stderr
    for name in ("fp8-block", "ct-int8", "ct-w4a16", "gptq-g128", "awq-g64"):
        try:
            checkpoint(name)
        except Skip as why:
            print(f"SKIP {name}: {why}")
            continue
        with Model(name) as m:
            m.config(quantization_config=...)
            m.refused(4, "_proj.", "config.json names no quantization")


def fill_tensor(name, value, but=0):
    """A tensor of f32 with one value throughout, but for the last so many"""
    def change(header, body):
        a, b = header[name]["data_offsets"]
        body[a:b - 4 * but] = struct.pack("<f", value) * ((b - a) // 4 - but)
    return change


def test_a_matrix_of_one_value_is_a_warning():
    layer = "model.layers.%d.%s"
    with Model() as m:
        for i, (name, value, but) in enumerate(((layer % (0, "input_layernorm.weight"), 1.0, 0), (layer % (0, "self_attn.q_proj.bias"), 0.0, 0), (layer % (2, "mlp.gate_proj.weight"), 0.0, 1))):
            m.header(fill_tensor(name, value, but))
        warned = tpshard("convert", m.model, "-o", m.bundle, "--no-selftest").stderr
        assert b"one value" not in warned, warned
        for tensors, value in (((layer % (1, "mlp.up_proj.weight"),), 0.0), ((layer % (0, "self_attn.k_proj.weight"), "lm_head.weight"), 0.5)):
            for name in tensors:
                m.header(fill_tensor(name, value))
            for args in ((), ("--quant", "int8", "--tp", "3")):
                lines = tpshard("convert", m.model, "-o", m.bundle, "--no-selftest", "--force", *args).stderr.decode().splitlines()
                found = [l for l in lines if "one value" in l]
                assert len(found) == 1 and found[0].startswith("tpshard: warning: "), lines
                assert json.load(open(m.bundle + "/manifest.json"))["source"]["warnings"] == 1
                error_line(tpshard("convert", m.model, "-o", m.bundle + ".s", "--no-selftest", "--strict", *args, status=None), 3, "one value", tensors[0])
                assert not os.path.exists(m.bundle + ".s")
                assert f'"{tensors[0]}" the first' in found[0] and ("1 weight matrix has" if value == 0 else "3 weight matrices have") in found[0], found
        assert convert(m.model, m.bundle, "--force").stderr.decode().splitlines() == found  # -q hushes no warning


def test_a_file_rewritten_while_it_is_read_is_noticed():
    with Model() as m:
        done = convert(m.model, m.dir + "/count", env=dict(os.environ, TP_FAULT="count"))
        calls = int(done.stderr.decode().split("io calls: ")[1].split()[0])
        p = subprocess.Popen([harness.TPSHARD, "convert", m.model, "-o", m.bundle, "-q", "--no-selftest"],
                             env=dict(os.environ, TP_FAULT=f"stop:{calls // 2}"), stderr=subprocess.PIPE)
        os.waitpid(p.pid, os.WUNTRACED)
        header, body = read_safetensors(m.weights)
        body[-1] ^= 1
        with open(m.weights, "r+b") as f:
            f.seek(os.path.getsize(m.weights) - 1)
            f.write(bytes(body[-1:]))
        p.send_signal(signal.SIGCONT)
        stderr = p.communicate()[1]
        error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 7, "model.safetensors", "changed")
        assert not os.path.exists(m.bundle)


def test_a_config_that_changes_meanwhile_is_the_old_one_or_the_new():
    """It is read once: what the model is made of is what travels."""
    with Folder() as d:
        shutil.copytree(harness.DEMO, d + "/m")
        want, seen = open(d + "/m/config.json").read(), set()
        for k in range(2, 12):
            with open(d + "/m/config.json", "w") as f:
                f.write(want)
            p = subprocess.Popen([harness.TPSHARD, "convert", d + "/m", "-o", d + "/b", "-q", "--no-selftest", "--threads", "1"],
                                 stderr=subprocess.PIPE, env=dict(os.environ, TP_FAULT=f"stop:{k}"))
            while open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "TZ":
                time.sleep(0.01)
            with open(d + "/m/config.json", "w") as f:
                f.write(want.replace("10000.0", "50000.0"))
            os.kill(p.pid, signal.SIGCONT)
            text = p.stderr.read()
            if p.wait() == 0:
                tpshard("verify", d + "/b", "-q")
                seen.add(json.load(open(d + "/b/config.json"))["rope_theta"])
                shutil.rmtree(d + "/b")
            else:  # it was open
                error_line(subprocess.CompletedProcess([], p.returncode, b"", text), p.returncode, "config.json")
        assert seen == {10000.0, 50000.0}, seen


def test_a_source_cut_while_it_is_mapped_ends_with_exit_7():
    with Model() as m:
        done = convert(m.model, m.dir + "/count", env=dict(os.environ, TP_FAULT="count"))
        calls = int(done.stderr.decode().split("io calls: ")[1].split()[0])
        p = subprocess.Popen([harness.TPSHARD, "convert", m.model, "-o", m.bundle, "-q", "--no-selftest"],
                             env=dict(os.environ, TP_FAULT=f"stop:{calls // 3}"), stderr=subprocess.PIPE)
        os.waitpid(p.pid, os.WUNTRACED)
        os.truncate(m.weights, 40000)
        p.send_signal(signal.SIGCONT)
        stderr = p.communicate()[1]
        error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 7, "model.safetensors")
        assert not os.path.exists(m.bundle)


def test_an_interrupt_ends_with_exit_10_and_is_resumable():
    with Model() as m:
        done = convert(m.model, m.dir + "/want", "--tp", "3", env=dict(os.environ, TP_FAULT="count"))
        calls = int(done.stderr.decode().split("io calls: ")[1].split()[0])
        for sig in (signal.SIGINT, signal.SIGTERM):
            p = subprocess.Popen([harness.TPSHARD, "convert", m.model, "-o", m.bundle, "--tp", "3", "-q", "--no-selftest"],
                                 env=dict(os.environ, TP_FAULT=f"stop:{calls // 2}"), stderr=subprocess.PIPE)
            os.waitpid(p.pid, os.WUNTRACED)
            p.send_signal(sig)
            p.send_signal(signal.SIGCONT)
            stderr = p.communicate()[1]
            error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 10, "resume")
            convert(m.model, m.bundle, "--tp", "3")
            assert harness.tree_bytes(m.bundle) == harness.tree_bytes(m.dir + "/want")
            shutil.rmtree(m.bundle)


def test_an_interrupted_answer_ends_with_exit_10_and_what_was_said_stands():
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b")
        p = subprocess.Popen([harness.TPRUN, "generate", d + "/b", "-p", "a", "-n", "100000", "--ignore-eos", "--temp", "0", "-q"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = p.stdout.read(20)
        p.send_signal(signal.SIGINT)
        rest, stderr = p.communicate()
        error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 10, "interrupted")
        assert len(said + rest) >= 20


def test_paths_from_an_index_are_never_opened():
    for value in ("../secret.safetensors", "/etc/hostname", "a/b.safetensors", ".", "", "a\\b.safetensors"):
        with Model() as m:
            os.remove(m.weights)
            open(os.path.join(m.dir, "secret.safetensors"), "w").close()
            index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": value}}
            json.dump(index, open(os.path.join(m.model, "model.safetensors.index.json"), "w"))
            done, calls = opened([harness.TPSHARD, "convert", m.model, "-o", m.bundle, "-q"], m.dir)
            error_line(done, 3, "model.embed_tokens.weight")
            for call in calls:
                assert "secret" not in call and "hostname" not in call and "b.safetensors" not in call, call


def test_pickle_is_never_opened():
    with Model() as m:
        os.rename(m.weights, os.path.join(m.model, "pytorch_model.bin"))
        done, calls = opened([harness.TPSHARD, "convert", m.model, "-o", m.bundle, "-q"], m.dir)
        error_line(done, 4, "pickle")
        assert not [c for c in calls if "pytorch_model.bin" in c]


def test_special_files_as_weights_do_not_hang():
    for make in (os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)):
        with Model() as m:
            os.remove(m.weights)
            make(m.weights)
            m.refused(3, "model.safetensors")


def test_wrong_command_lines():
    model = checkpoint("yarn")
    with Folder() as d:
        out = d + "/b"
        for status, args in ((2, ("--tp", "0")), (2, ("--tp", "49")), (2, ("--tp", "x")), (2, ("--tp", "-1")), (2, ("--frob",)),
                             (2, ("--mem", "-5")), (4, ("--quant", "w8a8")), (4, ("--quant", "int8", "--group", "64")), (4, ("--group", "32")),
                             (4, ("--quant", "int4", "--group", "16")), (4, ("--quant", "fp8", "--offset", "min")),
                             (2, ("--quant", "int4", "--group", "x")), (2, ("--quant", "int4", "--offset", "max")), (2, ("--quant", "int4-g64-zero")), (2, ("--quant", "int3")),
                             (6, ("--mem", "100K")), (2, ("--threads", "0"))):
            error_line(tpshard("convert", model, "-o", out, *args, status=None), status, "--")
            assert not os.path.exists(out) and not os.path.exists(out + ".partial"), args
        error_line(tpshard("convert", model, status=None), 2, "-o")
        error_line(tpshard("reshard", model, "-o", out, "--tp", "2", status=None), 3, model, "of a model's folder tpshard convert makes one")


def test_an_output_with_a_slash_behind_it_or_without_a_folder_is_itself():
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b//")
        run([harness.TPSHARD, "convert", checkpoint("yarn"), "-o", "c", "-q", "--no-selftest"], cwd=d)
        assert harness.tree_bytes(d + "/b") == harness.tree_bytes(d + "/c")
        assert sorted(os.listdir(d)) == ["b", "c"]


def test_what_cannot_be_looked_for_is_not_called_absent():
    """A folder that may not be searched, a link that leads to itself: neither is "no such folder", nor "not a bundle"."""
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b")
        os.symlink("loop", d + "/loop")
        for command in ((harness.TPRUN, "generate", "x"), (harness.TPSHARD, "verify"), (harness.TPSHARD, "inspect"), (harness.TPSHARD, "plan")):
            error_line(run([*command[:2], d + "/loop", *command[2:]], None), 5, d + "/loop", "Too many levels of symbolic links")
        if os.geteuid() != 0:
            raise Skip("a folder that somebody else may not search needs root")
        os.chmod(d, 0o711)
        os.chmod(d + "/b", 0o744)
        somebody = {"preexec_fn": lambda: os.setuid(65534)}
        for command in (harness.TPRUN, "selftest"), (harness.TPSHARD, "verify"):
            error_line(run([*command, d + "/b"], None, **somebody), 5, d + "/b", "Permission denied")


def test_a_missing_runtime_is_named():
    with Folder() as d:
        shutil.copy(harness.TPSHARD, d + "/tpshard")
        done = run([d + "/tpshard", "convert", checkpoint("yarn"), "-o", d + "/b", "-q"], None)
        error_line(done, 5, "tprun", "--no-selftest")
        assert os.listdir(d) == ["tpshard"], "nothing was begun"
        run([d + "/tpshard", "convert", checkpoint("yarn"), "-o", d + "/b", "-q", "--no-selftest"])


def test_bad_prompts_to_tprun():
    here = json.loads(tprun("info", "--json").stdout)["cpu"]["kernels"]
    lacking = [isa for isa in ("avx2", "avx512", "avx512bf16", "amx") if isa not in here]
    with Folder() as d:
        convert(checkpoint("yarn"), d + "/b")
        with open(d + "/bad.jsonl", "w") as f:
            f.write('{"id": 1, "prompt_ids": [1]}\n{"id": 2, "prompt_ids": [1, "x"]}\n')
        for status, names, args in ((3, ("512",), ("--prompt-ids", "1,512")), (2, (), ("--prompt-ids", "1,,2")),
                                    (3, ("2",), ("--prompts", d + "/bad.jsonl")), (5, ("nowhere",), ("-f", d + "/nowhere")),
                                    (3, ("5", "3"), ("--prompt-ids", "1,2,3,4,5", "--context", "3")),
                                    (6, (), ("--prompt-ids", "1", "--context", "1000000000000")),
                                    *((4, (isa,), ("--prompt-ids", "1", "--isa", isa)) for isa in lacking),
                                    (4, ("cuda",), ("--prompt-ids", "1", "--device", "cuda")), (2, (), ())):
            done = tprun("generate", d + "/b", *args, "--ids", "-q", status=None)
            error_line(done, done.returncode if status == 2 and done.returncode == 3 else status, *names)


def anonymous_peak(process):
    peak = 0
    while process.poll() is None:
        try:
            for line in open(f"/proc/{process.pid}/status"):
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.002)
    return peak


def test_a_conversion_stays_within_its_memory():
    """400 MB of weights with --mem 48M, under a data limit of that size."""
    if harness.SHARE != 1:
        raise Skip("sanitizers need memory of their own")
    limit = 48 << 20
    with Folder() as d:
        model = synthetic(d + "/large", hidden_size=2048, num_attention_heads=16, num_key_value_heads=4, head_dim=128, intermediate_size=5632,
                          vocab_size=32000, torch_dtype="bfloat16")
        for args in (("--tp", "4"), ("--tp", "3", "--quant", "int8"), ("--tp", "2", "--compress", "zstd")):
            p = subprocess.Popen([harness.TPSHARD, "convert", model, "-o", d + "/b", "-q", "--no-selftest", "--mem", "48M",
                                  "--threads", "2", "--force", *args], stderr=subprocess.PIPE,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
            peak = anonymous_peak(p)
            assert p.returncode == 0, p.stderr.read().decode()
            print(f"    {' '.join(args)}: peak of anonymous memory {peak / 2**20:.1f} MiB")
            assert peak <= limit
        p = subprocess.Popen([harness.TPSHARD, "reshard", d + "/b", "-o", d + "/r", "-q", "--mem", "96M", "--tp", "5", "--threads", "2"],
                             stderr=subprocess.PIPE)
        peak = anonymous_peak(p)
        assert p.returncode == 0, p.stderr.read().decode()
        assert peak <= 96 << 20, peak


def test_a_full_standard_output_is_exit_5_whoever_finds_it():
    with Folder() as d:
        convert(harness.DEMO, d + "/b", selftest=True)
        for args in ([harness.TPSHARD, "--help"], [harness.TPSHARD, "convert", "--help"], [harness.TPRUN, "--help"], [harness.TPRUN, "chat", "-h"], [harness.TPRUN, "info"],
                     [harness.TPSHARD, "inspect", d + "/b"], [harness.TPRUN, "selftest", d + "/b"], [harness.TPRUN, "generate", d + "/b", "-p", "a", "-n", "2"]):
            with open("/dev/full", "w") as full:
                done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE)
            harness.error_line(done, 5, "tandard output")


def test_a_closed_pipe_is_no_crash():
    p = subprocess.Popen([harness.TPSHARD, "convert", checkpoint("yarn"), "-o", "x", "--dry-run"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    p.stdout.close()
    assert p.wait() in (0, 5, -signal.SIGPIPE), p.returncode


harness.main(globals())
