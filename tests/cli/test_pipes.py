"""tprun between other programs: prompts and texts from standard input, FIFOs and terminals; logits to a pipe or as .npy."""
import ast
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, Skip, TPRUN, convert, error_line, tiny_model, tprun

TEXT = "Once upon a time, there was a little bird.\nIt was é😀 \n"
LIMIT = "268435456"


def terminal():
    try:
        return pty.openpty()
    except OSError as e:
        raise Skip(f"no terminal to be had: {e}")


def generated(bundle, *args, **kw):
    return tprun("generate", bundle, *args, "--json", "-n", "3", "--temp", "0", "-q", **kw).stdout


def through_a_fifo(path, data, args):
    """The same, with data written to the FIFO in pieces once it is open."""
    os.mkfifo(path)

    def write():
        with open(path, "wb", buffering=0) as f:
            for at in range(0, len(data), 7):
                f.write(data[at:at + 7])
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return args(path)
    finally:
        writer.join()
        os.remove(path)


def test_prompts_from_a_file_a_pipe_and_standard_input_are_the_same(tmp):
    bundle = tmp + "/b"
    convert(DEMO, bundle)
    lines = "".join(json.dumps({"id": i, "prompt": TEXT[:9 + i], "n": i}) + "\n" for i in range(4))
    for option, text in (("-f", TEXT), ("--file", TEXT), ("--prompts", lines)):
        data, path = text.encode(), tmp + "/file"
        with open(path, "wb") as f:
            f.write(data)
        want = generated(bundle, option, path)
        assert want
        for name in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
            assert generated(bundle, option, name, input=data) == want, name
            with open(path, "rb") as f:
                assert generated(bundle, option, name, stdin=f) == want, name
        assert through_a_fifo(tmp + "/fifo", data, lambda p: generated(bundle, option, p)) == want
        r, w = os.pipe()  # as a shell's <(...) has it; who wrote is gone
        os.write(w, data)
        os.close(w)
        assert generated(bundle, option, f"/dev/fd/{r}", pass_fds=[r]) == want
        os.close(r)
    # "-" is a name only where a file is asked for
    assert json.loads(generated(bundle, "-p", "-"))["prompt_ids"] != json.loads(generated(bundle, "-f", "-", input=TEXT.encode()))["prompt_ids"]


def test_what_comes_through_a_pipe_may_be_long(tmp):
    tiny_model(tmp + "/m")
    convert(tmp + "/m", tmp + "/b")
    data = b"".join(b'{"id": %d, "prompt_ids": [1, 2], "n": 1, "note": "%s"}\n' % (i, b"x" * 500) for i in range(3000))
    done = tprun("generate", tmp + "/b", "--prompts", "-", "--json", "-q", input=data)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == list(range(3000))


def test_what_has_no_end_is_refused_by_the_limit(tmp):
    convert(DEMO, tmp + "/b")
    for option in ("-f", "--prompts"):
        error_line(tprun("generate", tmp + "/b", option, "/dev/zero", status=None), 6, "/dev/zero", LIMIT)
        endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        error_line(tprun("generate", tmp + "/b", option, "-", stdin=endless.stdout, status=None), 6, "standard input", LIMIT)
        endless.stdout.close()
        endless.wait()


def test_what_cannot_be_read_is_named(tmp):
    convert(DEMO, tmp + "/b")
    for status, word, args, kw in ((3, "not a regular file", ("-f", tmp), {}), (5, "standard input", ("-f", "-"), {"stdin": os.open(tmp, os.O_RDONLY)}),
                                   (3, "standard input", ("-f", "-"), {"input": b""}), (3, "standard input", ("--prompts", "-"), {"input": b"\n"}),
                                   (3, "standard input: line 2", ("--prompts", "-"), {"input": b'{"prompt": "a"}\nx\n'}),
                                   (5, "/nowhere/x", ("-f", "/nowhere/x"), {}), (5, "./-", ("-f", "./-"), {"input": b"x", "cwd": tmp}),
                                   (5, "standard input", ("-f", "-"), {"preexec_fn": lambda: os.close(0)})):
        error_line(tprun("generate", tmp + "/b", *args, "-q", status=None, **kw), status, word)


def test_a_line_is_named_once(tmp):
    convert(DEMO, tmp + "/b")
    line = error_line(tprun("generate", tmp + "/b", "--prompts", "-", input=b'{"prompt": "a"}\n\n{"prompt": "a", x}\n', status=3), 3)
    assert "standard input: line 3 column 17: " in line, line
    line = error_line(tprun("render", tmp + "/b", input=b'{"messages": []}\n{"x": y}\n', status=3), 3)
    assert "standard input: line 2 column 7: " in line, line


def test_who_waits_for_a_prompt_can_be_interrupted(tmp):
    if os.environ.get("CONFIG") == "tsan":
        raise Skip("the thread sanitizer holds signals back while a call waits")
    convert(DEMO, tmp + "/b")
    os.mkfifo(tmp + "/fifo")
    r, w = os.pipe()
    master, slave = terminal()
    for args, stdin in ((("generate", "-f", tmp + "/fifo"), None), (("generate", "--prompts", "-"), r), (("generate", "-f", "-"), slave),
                        (("logits", "-o", tmp + "/l", "-f", "-"), r), (("tokenize", "--text"), r)):
        p = subprocess.Popen([TPRUN, args[0], tmp + "/b", *args[1:]], stdin=stdin, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(0.5)
        assert p.poll() is None, f"{args}: did not wait"
        begin = time.time()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        assert p.returncode == 10 and b"IN01" in err and not out, (args, p.returncode, err)
        assert time.time() - begin < 1.4 * harness.SHARE, "not at once"
    assert not os.path.exists(tmp + "/l")
    for fd in (r, w, master, slave):
        os.close(fd)


def test_a_terminal_is_read_up_to_ctrl_d(tmp):
    convert(DEMO, tmp + "/b")
    want = generated(tmp + "/b", "-f", "-", input=b"Once upon\na time\n")
    master, slave = terminal()
    p = subprocess.Popen([TPRUN, "generate", tmp + "/b", "-f", "-", "--json", "-n", "3", "--temp", "0", "-q"], stdin=slave, stdout=subprocess.PIPE)
    for part in (b"Once ", b"upon\n", b"a time\n"):
        os.write(master, part)
        time.sleep(0.1)
    assert p.poll() is None
    os.write(master, b"\x04")
    assert p.communicate(timeout=60)[0] == want and p.returncode == 0
    os.close(master)
    os.close(slave)


# ---- tokenize ----

def tokenize(bundle, data, *args, **kw):
    return tprun("tokenize", bundle, *args, input=data, **kw).stdout


def test_a_text_is_a_line_and_back(tmp):
    bundle = tmp + "/b"
    convert(DEMO, bundle)
    texts = ["Once upon a time", "", " two  spaces ", 'quotes " and \\n', "é😀\t", "[1, 2]", "\r"]
    as_json = tokenize(bundle, "".join(json.dumps(t) + "\n" for t in texts).encode())
    plain = "".join(t + "\n" for t in texts).encode()
    assert tokenize(bundle, plain, "--text") == as_json and as_json.count(b"\n") == len(texts)
    assert tokenize(bundle, plain[:-1], "--text") == as_json, "the last line may lack its end"
    assert tokenize(bundle, b"", "--text") == b""
    assert tokenize(bundle, as_json, "--text", "--decode") == plain
    assert [json.loads(line) for line in tokenize(bundle, as_json, "--decode").splitlines()] == texts
    for t in texts:
        assert tokenize(bundle, b"", t) == tokenize(bundle, json.dumps(t).encode()), t
    # any bytes are a text
    assert tokenize(bundle, tokenize(bundle, b"a\xffb\0c\n", "--text"), "--text", "--decode") == "a\ufffdb\0c\n".encode()
    error_line(tprun("tokenize", bundle, "--decode", "a", status=2), 2, "--decode")
    error_line(tprun("tokenize", bundle, "a", "b", status=2), 2, "b: one argument too many")
    error_line(tprun("tokenize", bundle, "--text", "--decode", status=3, input=b"[1]\nx\n"), 3, "line 2")


def test_a_text_that_is_typed_is_answered_line_by_line(tmp):
    convert(DEMO, tmp + "/b")
    p = subprocess.Popen([TPRUN, "tokenize", tmp + "/b", "--text"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for text in (b"Once", b"upon"):
        p.stdin.write(text + b"\n")
        p.stdin.flush()
        assert p.stdout.readline() == tokenize(tmp + "/b", json.dumps(text.decode()).encode())
    p.stdin.close()
    assert p.wait() == 0 and p.stdout.read() == b""


# ---- logits ----

def read_npy(path):
    """(shape, bytes of the values), as numpy.lib.format describes the file."""
    data = open(path, "rb").read()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    n, = struct.unpack("<H", data[8:10])
    head = data[10:10 + n].decode("latin-1")
    assert (10 + n) % 64 == 0 and head.endswith("\n")
    found = ast.literal_eval(head)
    assert found.keys() == {"descr", "fortran_order", "shape"} and found["descr"] == "<f4" and found["fortran_order"] is False
    return found["shape"], data[10 + n:]


def test_logits_as_npy_and_through_a_pipe(tmp):
    bundle = tmp + "/b"
    convert(DEMO, bundle)
    lines = b'{"prompt_ids": [1, 2, 3]}\n{"prompt_ids": [4]}\n{"prompt_ids": [5, 6]}\n'
    for tokens, args, kw in ((1, ("--prompt-ids", "7"), {}), (6, ("--prompts", "-"), {"input": lines}), (300, ("--prompt-ids", ",".join(["9"] * 300)), {})):
        raw = tprun("logits", bundle, *args, "-o", "-", "-q", **kw).stdout
        assert len(raw) == tokens * 1024 * 4
        tprun("logits", bundle, *args, "-o", tmp + "/l", "-q", **kw)
        assert open(tmp + "/l", "rb").read() == raw
        tprun("logits", bundle, *args, "-o", tmp + "/l.npy", "-q", **kw)
        assert read_npy(tmp + "/l.npy") == ((tokens, 1024), raw)
        try:
            import numpy
        except ImportError:
            continue
        loaded = numpy.load(tmp + "/l.npy")
        assert loaded.shape == (tokens, 1024) and loaded.dtype == numpy.float32 and loaded.tobytes() == raw
    tprun("logits", bundle, "--prompt-ids", "7", "-o", tmp + "/npy", "-q")
    assert os.path.getsize(tmp + "/npy") == 4096, "the name ends in npy, without a dot"


def test_what_is_no_text_is_not_shown_on_a_terminal(tmp):
    convert(DEMO, tmp + "/b")
    master, slave = terminal()
    for out in ("-", "/dev/stdout", os.ttyname(slave)):
        done = subprocess.run([TPRUN, "logits", tmp + "/b", "--prompt-ids", "1", "-o", out, "-q"], stdout=slave, stderr=subprocess.PIPE)
        error_line(done, 2, f"-o {out}", "a terminal, which shows no bytes")
        done = subprocess.run([harness.TPSHARD, "tokenizer", DEMO, "-o", out, "-q"], stdout=slave, stderr=subprocess.PIPE)
        error_line(done, 2, f"-o {out}", "a terminal, which shows no bytes")
    os.set_blocking(master, False)
    try:
        assert os.read(master, 1) == b"", "something was written"
    except BlockingIOError:
        pass
    os.close(master)
    os.close(slave)


harness.main(globals())
