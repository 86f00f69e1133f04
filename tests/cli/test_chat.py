"""Conversations: tprun generate --chat and tprun chat, templates at conversion, and what people type."""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import DEMO, Folder, SHARE, Skip, TPRUN, convert, error_line, tprun, tpshard

LINES = ("Tell me a story about a dog.", "What did the dog find? It was é😀.", "And then?")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def folder_with(path, template=None, **config):
    """The demo model with another template or other keys of tokenizer_config.json."""
    shutil.copytree(DEMO, path)
    name = os.path.join(path, "tokenizer_config.json")
    settings = json.load(open(name))
    settings.pop("chat_template")
    settings.update(config)
    json.dump(settings, open(name, "w"))
    if template is not None:
        with open(os.path.join(path, "chat_template.jinja"), "w") as f:
            f.write(template)
    return path


def talk(bundle, lines, *args, status=0):
    return tprun("chat", bundle, *args, status=status, input="".join(l + "\n" for l in lines).encode())


def load(path):
    return json.load(open(path))


def at_once(bundle, d, messages, *args):
    """What the model says to a conversation, rendered and run as one prompt."""
    with open(d + "/at-once.jsonl", "w") as f:
        f.write(json.dumps({"id": "x", "messages": messages}) + "\n")
    return json.loads(tprun("generate", bundle, "--chat", "--prompts", d + "/at-once.jsonl", "--json", "-q", *args).stdout)


def check_turns(bundle, d, *args):
    """A conversation of three turns; every answer as at once, the cache in use. Its standard output."""
    lines = []
    for i, line in enumerate(LINES):
        lines += [line, f"/save {d}/turn{i}"]
    done = talk(bundle, lines, "--stats", *args)
    shown = b""
    for i in range(len(LINES)):
        messages = load(f"{d}/turn{i}")
        assert [m["role"] for m in messages] == ["user", "assistant"] * (i + 1)
        assert messages[-2]["content"] == LINES[i]
        assert at_once(bundle, d, messages[:-1], *args)["text"] == messages[-1]["content"], (i, args)
        shown += messages[-1]["content"].encode() + b"\n"
    assert done.stdout == shown, (done.stdout, shown)
    stats = re.findall(rb"turn (\d+): (\d+) tokens, (\d+) reused, (\d+) prefilled", done.stderr)
    assert len(stats) == len(LINES), done.stderr
    for turn, total, reused, fresh in (map(int, s) for s in stats):
        assert total == reused + fresh and (reused > 20 if turn > 1 else reused == 0), stats
    assert talk(bundle, lines, "--no-reuse", *args).stdout == shown, "another answer without the cache of the turns before"
    return shown


def test_every_turn_is_what_the_whole_conversation_gives_at_once():
    with Folder() as d:
        seen = {}
        for tp in (1, 3):
            convert(DEMO, f"{d}/{tp}", "--tp", tp)
            for args in (("--temp", "0", "-n", "20"), ("--temp", "0.9", "--seed", "7", "-n", "20", "--chunk", "5"),
                         ("--temp", "0", "--repetition-penalty", "1.4", "-n", "12", "--threads", "1"), ("-n", "15"))[::1 if SHARE == 1 else 3]:
                said = check_turns(f"{d}/{tp}", d, *args)
                assert seen.setdefault(args, said) == said, f"another conversation at tp {tp}"


def test_a_conversation_that_crosses_pages_of_the_cache():
    with Folder() as d:
        bundle = convert(DEMO, d + "/b") and d + "/b"
        for extra in ((), ("--kv-dtype", "f32")):
            check_turns(bundle, d, "--temp", "0", "-n", "120", *extra)


def test_a_model_whose_attention_has_a_window():
    with Folder() as d:
        shutil.copytree(DEMO, d + "/m")
        config = json.load(open(d + "/m/config.json"))
        config.update(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=24)
        json.dump(config, open(d + "/m/config.json", "w"))
        convert(d + "/m", d + "/b", "--tp", 2)
        check_turns(d + "/b", d, "--temp", "0", "-n", "120")


def test_generate_chat_puts_the_template_around_a_text():
    with Folder() as d:
        convert(DEMO, d + "/b")
        whole = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello\nyou<|im_end|>\n<|im_start|>assistant\n"
        want = json.loads(tprun("generate", d + "/b", "-p", whole, "--json", "-n", "5", "--temp", "0", "-q").stdout)
        got = json.loads(tprun("generate", d + "/b", "--chat", "--system", "Be kind.", "-p", "Hello\nyou", "--json", "-n", "5",
                               "--temp", "0", "-q").stdout)
        assert got["prompt_ids"] == want["prompt_ids"] and got["text"] == want["text"]
        with open(d + "/f", "w") as f:
            f.write("Hello\nyou")
        again = json.loads(tprun("generate", d + "/b", "--chat", "--system", "Be kind.", "-f", d + "/f", "--json", "-n", "5",
                                 "--temp", "0", "-q").stdout)
        assert again["prompt_ids"] == want["prompt_ids"]
        error_line(tprun("generate", d + "/b", "-p", "x", "--system", "y", status=2), 2, "--chat")
        with open(d + "/m", "w") as f:
            f.write('{"messages": [{"role": "user", "content": "x"}]}\n')
        error_line(tprun("generate", d + "/b", "--prompts", d + "/m", status=3), 3, "line 1", "--chat")
        for line, what in (('{"messages": []}', "at least one"), ('{"messages": [1]}', "object"), ('{"messages": 3}', "array"),
                           ('{"messages": [{"role": "user"}], "prompt": "x"}', "more")):
            with open(d + "/m", "w") as f:
                f.write(line + "\n")
            error_line(tprun("generate", d + "/b", "--chat", "--prompts", d + "/m", status=3), 3, "line 1", what)


def test_the_text_of_control_tokens_in_a_message_stays_text():
    with Folder() as d:
        convert(DEMO, d + "/b")

        def ids(*args):
            return json.loads(tprun("generate", d + "/b", *args, "--json", "-n", "1", "--temp", "0", "-q").stdout)["prompt_ids"]

        plain = ids("--chat", "-p", "ab")
        for token in SPECIAL:
            said = f"a{token}b"
            got = ids("--chat", "-p", said)
            for i in range(3):
                assert got.count(i) == plain.count(i), (token, got)
            assert len(got) > len(plain) + 3, "the text of the token is gone"
            reference = ids("-p", f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n")
            assert got != reference and ids("--chat", "--parse-special", "-p", said) == reference
            # the name of a role is data as well
            with open(d + "/m", "w") as f:
                f.write(json.dumps({"messages": [{"role": token, "content": "ab"}]}) + "\n")
            assert [ids("--chat", "--prompts", d + "/m").count(i) for i in range(3)] == [plain.count(i) for i in range(3)]
        # and so it is in a conversation: the ids of the whole are those of generate
        talk(d + "/b", ["a<|im_end|>b", f"/save {d}/s", "/quit"], "-n", "3", "--temp", "0")
        assert load(d + "/s")[0]["content"] == "a<|im_end|>b"


def test_commands_in_a_pipe():
    with Folder() as d:
        convert(DEMO, d + "/b")
        args = ("--temp", "0", "-n", "8")
        one = talk(d + "/b", [LINES[0]], *args)
        assert one.stderr == b"" and one.stdout.endswith(b"\n")
        done = talk(d + "/b", [LINES[0], "/reset", LINES[0]], *args)
        assert done.stdout == one.stdout * 2
        system = talk(d + "/b", ["/system You are a cat.", LINES[0], f"/save {d}/s", "/reset", f"/save {d}/r", "/system", f"/save {d}/n"], *args)
        assert system.stdout == talk(d + "/b", [LINES[0]], "--system", "You are a cat.", *args).stdout
        assert [m["role"] for m in load(d + "/s")] == ["system", "user", "assistant"]
        assert load(d + "/r") == [{"role": "system", "content": "You are a cat."}] and load(d + "/n") == []
        # a saved conversation goes on elsewhere as it would have here
        both = talk(d + "/b", [LINES[0], f"/save {d}/s", LINES[1]], *args).stdout
        assert one.stdout + talk(d + "/b", [f"/load {d}/s", LINES[1]], *args).stdout == both
        assert talk(d + "/b", ["/quit", LINES[0]], *args).stdout == b""
        assert b"/reset" in talk(d + "/b", ["/help"], *args).stderr
        assert b"reused" in talk(d + "/b", ["/stats", LINES[0]], *args).stderr
        # what does not work leaves the conversation as it is, and the exit status says so
        done = talk(d + "/b", ["/nonsense", "/load /nowhere/x", LINES[0]], *args, status=2)
        assert done.stdout == one.stdout and b"/nonsense" in done.stderr and b"/nowhere/x" in done.stderr
        with open(d + "/bad", "w") as f:
            f.write('[{"role": "user"}]')
        assert talk(d + "/b", [f"/load {d}/bad", LINES[0]], *args, status=3).stdout == one.stdout
        done = talk(d + "/b", [f"/save {d}/nowhere/x", LINES[0]], *args, status=5)
        assert done.stdout == one.stdout


def test_every_command_says_what_it_has_done():
    with Folder() as d:
        convert(DEMO, d + "/b")

        def said(lines, **kw):
            return talk(d + "/b", lines, "--temp", "0", "-n", "4", **kw).stderr.decode().splitlines()

        os.mkdir(d + "/a b")
        assert said([LINES[0], LINES[1], f"/save {d}/a b/t.json", "/clear", "/clear", f"/load {d}/a b/t.json", "/reset", "/system Be kind.", "/system",
                     "/stats", "/stats", "/quit"]) == [
            f"saved {d}/a b/t.json", "forgotten: 2 turns", "forgotten: 0 turns", f"loaded {d}/a b/t.json", "forgotten: 2 turns",
            "system message set", "system message removed", "stats on", "stats off"]
        assert [m["role"] for m in load(d + "/a b/t.json")] == ["user", "assistant"] * 2
        assert said([LINES[0], "/clear"]) == ["forgotten: 1 turn"]
        assert talk(d + "/b", [LINES[0], "/clear", "/stats", "/stats", f"/save {d}/s"], "-n", "1", "-q").stderr == b""
        assert said(["/?"]) == said(["/help"]) and len(said(["/?"])) > 9
        for end in ("/exit", "/quit", "/exit \r", "/quit\t"):
            assert talk(d + "/b", [end, LINES[0]]).stdout == b"", end
        # blanks at the end are not of the name: Tab and other systems' line ends leave them
        assert said([f"/save {d}/s \r"]) == [f"saved {d}/s"] and load(d + "/s") == []
        # what is no command is not said to the model either
        for line in ("/exti", "/", "/ clear", "/saved x", "/home/me/x is a file"):
            done = talk(d + "/b", [line, f"/save {d}/s"], status=2)
            assert done.stdout == b"" and load(d + "/s") == [] and b"unknown command" in done.stderr, line
            meant = {"/exti": b"did you mean /exit?", "/saved x": b"did you mean /save?"}
            assert meant.get(line, b"/help lists them") in done.stderr, done.stderr


def test_messages_of_several_lines_and_odd_bytes():
    with Folder() as d:
        convert(DEMO, d + "/b")
        for typed, meant in ((["a\\", "b"], "a\nb"), (['"""a', "b", 'c"""'], "a\nb\nc"), (['"""', "a", "", "b", '"""'], "a\n\nb"),
                             (['"""a"""'], "a"), (["//x"], "/x"), (["a \\"], "a \n"), (['"""open'], "open"), (['a """ b'], 'a """ b')):
            talk(d + "/b", typed, "-n", "1", "--temp", "0")  # also without anything after it
            if typed[-1][-1] in '\\n' and typed[-1] != 'b':
                continue
            talk(d + "/b", typed + [f"/save {d}/s"], "-n", "1", "--temp", "0")
            assert load(d + "/s")[0]["content"] == meant, (typed, load(d + "/s"))
        done = tprun("chat", d + "/b", "-n", "1", "--temp", "0", input=b"a\xff\xe2\x82b\x00c\r\n\n\n/save " + d.encode() + b"/s")
        assert load(d + "/s")[0]["content"] == "a\ufffd\ufffdb\0c" and done.stdout.count(b"\n") >= 1
        assert tprun("chat", d + "/b", input=b"").stdout == b""


def test_stop_strings_end_an_answer():
    with Folder() as d:
        convert(DEMO, d + "/b")
        whole = talk(d + "/b", [LINES[0]], "--temp", "0", "-n", "30").stdout.decode()[:-1]
        stop = whole[len(whole) // 2:len(whole) // 2 + 5]
        done = talk(d + "/b", [LINES[0], f"/save {d}/s", LINES[1]], "--temp", "0", "-n", "30", "--stop", stop)
        cut = whole[:whole.index(stop)]
        assert done.stdout.decode().startswith(cut + "\n") and load(d + "/s")[1]["content"] == cut
        error_line(talk(d + "/b", [], "--stop", "", status=2), 2, "--stop")


def test_line_ends_blanks_and_the_home_folder():
    with Folder() as d:
        convert(DEMO, d + "/b")
        args = ("--temp", "0", "-n", "2")
        want = talk(d + "/b", [LINES[0], LINES[1] + "\n"], *args)
        for typed in ([LINES[0] + "\r", LINES[1] + "\r"], ["", LINES[0], "  ", "\t \r", '"""', " ", '"""', LINES[1]]):
            assert talk(d + "/b", typed, *args).stdout == want.stdout, typed
        home = {**os.environ, "HOME": d}
        lines = ["a\\\r", "b\r", "/save ~/s t\r", "/load ~/s t", "/save ~", "/load ~x"]
        done = tprun("chat", d + "/b", *args, input="".join(l + "\n" for l in lines).encode(), env=home, cwd=d, status=5)
        assert load(d + "/s t")[0]["content"] == "a\nb" and load(d + "/~") == load(d + "/s t")
        assert done.stderr.decode().splitlines()[:3] == [f"saved {d}/s t", f"loaded {d}/s t", "saved ~"]


def test_a_conversation_that_is_too_long_is_refused_and_stays_usable():
    with Folder() as d:
        convert(DEMO, d + "/b")
        args = ("--temp", "0", "-n", "10", "--context", "60")
        one = talk(d + "/b", [LINES[0]], *args).stdout
        done = talk(d + "/b", [LINES[0], "word " * 80, "/save " + d + "/s", "/reset", LINES[0]], *args, status=6)
        said = done.stderr.decode().splitlines()
        assert "--context allows 60" in said[0] and "note: the message is taken back" in said[1], said
        assert len(load(d + "/s")) == 2
        assert done.stdout == one + b"\n" + one
        long = talk(d + "/b", ["word " * 12], "--temp", "0", "-n", "100", "--context", "60")
        assert b"context of 60 tokens is full" in long.stderr or long.stdout
        os.mkdir(d + "/e")
        full = talk(endless(d + "/e"), ["Once"], "--temp", "0", "--context", "60")
        assert full.stderr.decode().splitlines() == ["tprun: note: the context of 60 tokens is full; /clear begins anew"]


class Terminal:
    """tprun chat at a terminal of its own."""

    def __init__(self, *args):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as e:
            raise Skip(f"no terminal to be had: {e}")
        if self.pid == 0:
            # libedit keeps the names of keys' functions for good
            os.environ.update(TERM="vt100", LC_ALL="C.UTF-8", HOME=os.path.dirname(args[0]), ASAN_OPTIONS="detect_leaks=0")
            os.execv(TPRUN, [TPRUN, "chat", *map(str, args)])
        self.seen = b""

    def type(self, text):
        """At the line editor: elsewhere the terminal would take Ctrl-D for itself."""
        end = time.time() + 60
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            assert time.time() < end, f"no line is asked for: {self.seen!r}"
            self.read(0.01)
        self.press(text)

    def press(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            got = b""
        self.seen += got
        return bool(got)

    def expect(self, text, seconds=60):
        """Read until text has come; what came before it."""
        end = time.time() + seconds
        while text.encode() not in self.seen:
            if time.time() > end or not (self.read(0.2) or os.waitpid(self.pid, os.WNOHANG)[0] == 0):
                raise AssertionError(f"{text!r} did not come: {self.seen!r}")
        at = self.seen.index(text.encode())
        before, self.seen = self.seen[:at], self.seen[at + len(text.encode()):]
        return before

    def sync(self):
        """Until what was typed is done and the next line is waited for."""
        self.type("/sync\r")
        self.expect('unknown command "/sync"')

    def close(self, settings=None):
        """Its exit status, once it has ended. settings: those that the terminal has to have then."""
        end = time.time() + 120
        while self.read(20):
            if time.time() > end:
                os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert settings in (None, termios.tcgetattr(self.fd)), "the terminal is left in another way"
        os.close(self.fd)
        return status


ENDLESS = ("--temp", "0", "-n", "60000", "--context", "60000")


def endless(d):
    """A model that never ends, for far more tokens than it was made for: an answer takes minutes."""
    folder_with(d + "/m", "{% for m in messages %}{{ m.content }}\n{% endfor %}", eos_token=None)
    json.dump({"eos_token_id": 1023}, open(d + "/m/generation_config.json", "w"))
    convert(d + "/m", d + "/b")
    return d + "/b"


def test_ctrl_c_stops_an_answer_and_not_the_program():
    with Folder() as d:
        endless(d)
        t = Terminal(d + "/b", *ENDLESS, "--stats")
        try:
            t.expect("> ")
            t.type("Tell me éverything\r")
            t.expect("éverything")
            while not t.seen.strip():  # until the answer has begun
                assert t.read(60)
            time.sleep(0.3)
            t.press(b"\x03")
            assert b"interrupted" in t.expect("context ")
            t.expect("> ")
            t.type(f"/save {d}/s\r")
            t.sync()
            saved = load(d + "/s")
            assert saved[-2]["content"] == "Tell me éverything" and saved[-1]["role"] == "assistant" and saved[-1]["content"]
            t.type(b"half a line\x03")
            t.expect("^C")
            t.type(f"/save {d}/again\r")
            t.sync()
            assert load(d + "/again") == saved, "a line that was dropped was said"
            os.mkfifo(d + "/fifo")
            t.type(f"/save {d}/fifo\r")
            t.expect("fifo\r\n")  # nobody reads there
            time.sleep(0.3)
            t.press(b"\x03")
            t.expect("warning: interrupted")
            t.expect("> ")
            t.type(b"\x04")
            status = t.close()
            assert status == 0, (status, t.seen[-3000:])
        finally:
            try:
                os.kill(t.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def begun(t, line):
    """An answer to line is being printed."""
    t.type(line + "\r")
    t.expect(line)
    while not t.seen.strip():
        assert t.read(60)


def test_what_is_typed_during_an_answer_is_for_the_next_line():
    with Folder() as d:
        t = Terminal(endless(d), *ENDLESS)
        before = termios.tcgetattr(t.fd)
        t.expect("> ")
        begun(t, "Once")
        t.press("zzz\x7fyx /qqqx")
        time.sleep(0.5)
        t.read(1)
        t.press(b"\x03")  # and that is dropped with it
        assert not re.search(r"zzz|qqq", t.expect("> ").decode(errors="replace")), "typing is shown in the answer"
        t.type(f"/save {d}/s\r")
        t.expect("saved ")
        assert load(d + "/s")[0]["content"] == "Once"
        t.type(b"\x04")
        assert t.close(before) == 0
        # an answer that ends: what was typed comes after it, edited, and with its ends of lines
        convert(DEMO, d + "/demo")
        t = Terminal(d + "/demo", "--temp", "0", "-n", "40", "--threads", "1")
        t.expect("> ")
        t.type(f"Once\r/save {d}/onx\x7fe\r/system Be ki")
        first, _ = t.expect("saved "), t.expect(f"{d}/one")
        assert b"/save" not in first[:first.index(b"> ")], first
        t.expect("/system Be ki")
        t.type("nd.\r")
        t.expect("system message set")
        assert [m["role"] for m in load(d + "/one")] == ["user", "assistant"]
        t.type(b"\x04")
        assert t.close(before) == 0


def test_a_terminal_is_left_as_it_was():
    with Folder() as d:
        bundle = endless(d)
        for number, status in ((signal.SIGTERM, 10), (signal.SIGHUP, 10), (signal.SIGQUIT, -signal.SIGQUIT)):
            for during in ("answer", "line"):
                t = Terminal(bundle, *ENDLESS)
                before = termios.tcgetattr(t.fd)
                t.expect("> ")
                if during == "answer":
                    begun(t, "Once")
                else:
                    t.type("half a")
                    t.expect("half a")
                assert termios.tcgetattr(t.fd)[3] != before[3]
                os.kill(t.pid, number)
                assert t.close(before) == status, (number, during)
        # the key that stops, and going on
        t = Terminal(bundle, *ENDLESS)
        before = termios.tcgetattr(t.fd)
        t.expect("> ")
        begun(t, "Once")
        os.kill(t.pid, signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(t.pid, os.WUNTRACED)[1])
        assert termios.tcgetattr(t.fd) == before
        os.kill(t.pid, signal.SIGCONT)
        end = time.time() + 60
        while termios.tcgetattr(t.fd)[3] & termios.ECHO:
            assert time.time() < end, "typing would be shown after going on"
            time.sleep(0.01)
        t.press(b"\x03")
        t.expect("> ")
        t.type(b"\x04")
        assert t.close(before) == 0
        # an error that ends the program during an answer: the weights are cut
        t = Terminal(bundle, *ENDLESS)
        t.expect("> ")
        begun(t, "Once")
        os.truncate(bundle + "/rank-000-of-001.tps", 4096)
        assert t.close(before) == 7


def test_ctrl_c_at_an_empty_line_twice_leaves():
    with Folder() as d:
        convert(DEMO, d + "/b")
        t = Terminal(d + "/b", "--temp", "0", "-n", "2")
        t.expect("> ")
        # a line, or lines, that are dropped do not count, and anything else in between begins anew
        for keys, then in (("text\x03", "^C"), ("\x03", "^C"), ("/system\r", "removed"), ("\x03", "^C"), ("text\x03", "^C"), ("\x03", "^C"),
                           ('"""\r', "| "), ("\x03", "^C"), ("\x03", "^C"), ("a\\\r", "| "), ("\x03", "^C"), ("\x03", "^C"), ("\r", "> ")):
            t.type(keys)
            t.expect(then)
        t.sync()  # the prompt of just now may be that of before the line
        t.expect("> ")
        t.type("\x03")
        t.expect("Ctrl-C again leaves")
        t.type("\x03")
        assert t.close() == 0


def test_tab_completes_commands_and_names_of_files():
    with Folder() as d:
        convert(DEMO, d + "/b")
        os.makedirs(d + "/w/folder")
        for name in ("talk-é.json", "talk-ê.json", ".hidden", "with space", "bad\x1b[2J"):
            with open(f"{d}/w/{name}", "w") as f:
                f.write("[]")
        t = Terminal(d + "/b", "--temp", "0", "-n", "2")
        t.expect("> ")
        # "/sy" is one, "/s" several that are shown, "/xyz" none; elsewhere a tab is a character
        t.type("/sy\tBe kind.\r")
        t.expect("system message set")
        t.type("/s\t")
        shown = t.expect("stats").decode()
        assert "system" in shown and "save" in shown and "quit" not in shown
        t.type("\x15/xyz\t\x15a\tb\r")
        t.expect("> ")
        t.type(f"/sa\t{d}/w/first\r")
        t.expect("saved ")
        assert load(d + "/w/first")[1]["content"] == "a\tb"
        t.type(f"/load {d}/w/fi\t\r")
        t.expect(f"loaded {d}/w/first")
        t.type("/load ~/w/fi\t\r")
        t.expect(f"loaded {d}/w/first")
        t.type(f"/load {d}/w/w\t\r")
        t.expect(f"loaded {d}/w/with space")
        t.type(f"/load {d}/w/ta\té\t\r")  # no half of a character
        t.expect(f"loaded {d}/w/talk-é.json")
        t.type(f"/save {d}/w/fo\tinside\r")
        t.expect(f"saved {d}/w/folder/inside")
        t.type(f"/load {d}/w/\t")
        shown = t.expect("with space").decode()
        assert "talk-é.json" in shown and "folder" in shown and "hidden" not in shown and "bad" not in shown
        t.type("\x15")
        t.type(f"/load {d}/w/.\t\r")
        t.expect(f"loaded {d}/w/.hidden")
        t.type("/load /nowhere/\t\x15")
        t.sync()
        t.type("/ex\t\r")
        assert t.close() == 0


def test_typing_is_not_shown_where_only_answers_go_elsewhere():
    """Standard output is a pipe, standard input a terminal: no line editor, and the same."""
    with Folder() as d:
        bundle = endless(d)
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        p = subprocess.Popen([TPRUN, "chat", bundle, *ENDLESS], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.write(master, b"Once\n")
        assert p.stdout.read(20)
        assert not termios.tcgetattr(slave)[3] & termios.ECHO and termios.tcgetattr(slave)[3] & termios.ICANON
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
        assert p.returncode == 10 and termios.tcgetattr(slave) == before
        os.close(master)
        os.close(slave)


def test_signals_end_a_conversation_through_a_pipe():
    with Folder() as d:
        bundle = endless(d)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            p = subprocess.Popen([TPRUN, "chat", bundle, *ENDLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            p.stdin.write(b"Once\n")
            p.stdin.flush()
            assert p.stdout.read(20)
            p.send_signal(number)
            stderr = p.communicate(timeout=60)[1]
            error_line(subprocess.CompletedProcess([], p.returncode, b"", stderr), 10, "interrupted")


def test_what_was_typed_can_be_called_back():
    with Folder() as d:
        convert(DEMO, d + "/b")
        for first in (True, False):
            t = Terminal(d + "/b", "--temp", "0", "-n", "2", "--history", d + "/h", "-q")
            t.expect("> ")
            if first:
                t.type("Once\r")
                t.sync()
            else:  # what the program before was told: Once, /sync, /save, /sync
                os.remove(d + "/s")
                t.type(b"\x1b[A" * 4 + b"\r")
                t.expect("Once")
                t.sync()
            t.type(f"/save {d}/s\r")
            t.sync()
            assert load(d + "/s")[0]["content"] == "Once"
            t.type(b"\x04")
            assert t.close() == 0 and os.stat(d + "/h").st_mode & 0o777 == 0o600
        for nowhere in (d + "/nodir/h", d + "/h/h"):
            t = Terminal(d + "/b", "--history", nowhere)
            assert t.close() in (2, 5) and b"> " not in t.seen and t.seen.count(b"\n") == 1, t.seen
        notes = "not a history"
        open(d + "/notes", "w").write(notes)
        t = Terminal(d + "/b", "--history", d + "/notes", "-q")
        assert t.close() == 2 and open(d + "/notes").read() == notes
        os.mkfifo(d + "/fifo")
        with open(d + "/large", "wb") as f:
            f.truncate((64 << 20) + 1)
        for path, status, why in ((d + "/fifo", 3, b"not a regular file"), ("/dev/zero", 3, b"not a regular file"), (d + "/large", 6, b"at most 67108864")):
            t = Terminal(d + "/b", "--history", path, "-q")
            assert t.close() == status and why in t.seen, t.seen


def test_without_a_template_there_is_no_chat():
    with Folder() as d:
        convert(folder_with(d + "/m"), d + "/b")
        for args in (("generate", d + "/b", "--chat", "-p", "x"), ("chat", d + "/b")):
            error_line(tprun(*args, status=4, input=b""), 4, "template")
        tprun("generate", d + "/b", "-p", "x", "-n", "1", "-q")
        assert b"template   none" in tpshard("inspect", d + "/b").stdout
        assert "chat_templates" not in load(d + "/b/manifest.json")


def test_a_template_with_an_error_is_left_out_with_a_warning():
    with Folder() as d:
        for i, (template, place) in enumerate((("{% for m in messages %}\n  {{ m.content }\n{% endfor %}", ":2"),
                                               ("a\n\n{{ messages | nofilter }}", ":3"), ("{% import 'x' as y %}", ":1"),
                                               ("{% include 'x' %}", ":1"), ("{{ 1 is nosuchtest }}", ":1"),
                                               ("a\n{{ 'a'|wordwrap(9) }}", ":2:8: the filter 'wordwrap' is not supported"), ("{% block x %}", ":1:4: the tag 'block'"),
                                               ("\n\n{{ joiner() }}", ":3:10: joiner is not supported"), ("{{ messages[0].role % 1 }}", ":1:4: formatting with %"))):
            folder_with(f"{d}/m{i}", template)
            done = tpshard("convert", f"{d}/m{i}", "-o", f"{d}/b{i}", "--no-selftest")
            line = [l for l in done.stderr.decode().splitlines() if "warning" in l and "chat_template.jinja" in l]
            assert len(line) == 1 and "chat_template.jinja" + place in line[0], done.stderr
            error_line(tprun("generate", f"{d}/b{i}", "--chat", "-p", "x", status=4), 4, "chat_template.jinja" + place)


def test_a_template_that_exhausts_its_limits_is_left_out():
    hostile = ("{% for i in range(10**12) %}x{% endfor %}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
               "{{ 'a' * 10**9 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
               "{% set ns = namespace(a='xxxxxxxxxxxxxxxx') %}{% for i in range(100) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
               "{% for i in range(10) %}" * 200 + "{% endfor %}" * 200, "{{ " + "(" * 10000 + "1" + ")" * 10000 + " }}")
    with Folder() as d:
        for i, template in enumerate(hostile):
            folder_with(f"{d}/m{i}", template)
            start = time.time()
            for args in (("convert", f"{d}/m{i}", "-o", f"{d}/b{i}", "--no-selftest"), ("tokenizer", f"{d}/m{i}", "-o", f"{d}/t{i}")):
                error_line(tpshard(*args, "--strict", status=3), 3, "chat_template.jinja")
                assert not os.path.exists(args[3]), "something was left"
                warnings = [l for l in tpshard(*args).stderr.splitlines() if b"warning" in l]
                assert len(warnings) == 1 and b"chat_template.jinja:" in warnings[0], warnings
            error_line(tprun("generate", f"{d}/b{i}", "--chat", "-p", "x", status=4), 4, "chat_template.jinja:")
            assert time.time() - start < 240  # without limits: never
        folder_with(d + "/long", "x" * ((1 << 20) + 1))
        error_line(tpshard("tokenizer", d + "/long", "-o", d + "/t", "--strict", status=3), 3, "chat_template.jinja", "1048576")
        folder_with(d + "/fits", "x" * (1 << 20))
        tpshard("tokenizer", d + "/fits", "-o", d + "/t", "-q")


def test_an_error_that_the_template_raises_is_its_own_affair():
    template = ("{% if messages|length > 2 %}{{ raise_exception('at most ' ~ 2) }}{% endif %}"
                "{% for m in messages %}{{ m.content }} {% endfor %}")
    with Folder() as d:
        convert(folder_with(d + "/m", template), d + "/b")
        done = talk(d + "/b", [LINES[0], LINES[1], "/reset", LINES[0]], "-n", "4", "--temp", "0", status=3)
        assert b"at most 2" in done.stderr
        answers = done.stdout
        one = talk(d + "/b", [LINES[0]], "-n", "4", "--temp", "0").stdout
        assert answers == one + b"\n" + one
        convert(folder_with(d + "/always", "{{ raise_exception('never') }}"), d + "/a")
        error_line(tprun("generate", d + "/a", "--chat", "-p", "x", status=3), 3, "never")


def test_templates_by_name_and_their_digests():
    import hashlib
    tool = "{% for t in tools %}{{ t.name }} {% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}"
    plain = "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}"
    with Folder() as d:
        convert(folder_with(d + "/m", chat_template=[{"name": "default", "template": plain}, {"name": "tool_use", "template": tool}]), d + "/b")
        digests = {"default": hashlib.sha256(plain.encode()).hexdigest(), "tool_use": hashlib.sha256(tool.encode()).hexdigest()}
        assert load(d + "/b/manifest.json")["chat_templates"] == digests
        assert json.loads(tpshard("inspect", d + "/b", "--json").stdout)["chat_templates"] == digests
        text = tpshard("inspect", d + "/b").stdout.decode()
        assert all(name in text and digest in text for name, digest in digests.items())
        tpshard("verify", d + "/b", "--against", d + "/m")
        got = at_once(d + "/b", d, [{"role": "user", "content": "ab"}], "-n", "1")["prompt_ids"]
        with open(d + "/p", "w") as f:
            f.write(json.dumps({"messages": [{"role": "user", "content": "ab"}], "tools": [{"name": "dig"}]}) + "\n")
        tools = json.loads(tprun("generate", d + "/b", "--chat", "--prompts", d + "/p", "--json", "-n", "1", "-q").stdout)["prompt_ids"]
        want = [json.loads(tprun("generate", d + "/b", "-p", t, "--json", "-n", "1", "-q").stdout)["prompt_ids"] for t in ("<|endoftext|>ab", "dig ab")]
        assert [got, tools] == want


def test_a_file_of_its_own_wins_over_tokenizer_config():
    with Folder() as d:
        folder_with(d + "/m", "file {{ messages[0].content }}", chat_template="config")
        os.mkdir(d + "/m/additional_chat_templates")
        with open(d + "/m/additional_chat_templates/tool_use.jinja", "w") as f:
            f.write("tools {{ messages[0].content }}")
        convert(d + "/m", d + "/b")
        assert sorted(load(d + "/b/manifest.json")["chat_templates"]) == ["default", "tool_use"]
        got = at_once(d + "/b", d, [{"role": "user", "content": "ab"}], "-n", "1")["prompt_ids"]
        assert got == json.loads(tprun("generate", d + "/b", "-p", "file ab", "--json", "-n", "1", "-q").stdout)["prompt_ids"]
        # only other names in files: then there is no default, whatever tokenizer_config.json has
        os.remove(d + "/m/chat_template.jinja")
        convert(d + "/m", d + "/c")
        error_line(tprun("generate", d + "/c", "--chat", "-p", "x", status=4), 4, "--chat-template NAME takes one of these: tool_use")
        # the file of a processor comes last
        folder_with(d + "/p")
        json.dump({"chat_template": "last {{ messages[0].content }}"}, open(d + "/p/chat_template.json", "w"))
        convert(d + "/p", d + "/q")
        got = at_once(d + "/q", d, [{"role": "user", "content": "ab"}], "-n", "1")["prompt_ids"]
        assert got == json.loads(tprun("generate", d + "/q", "-p", "last ab", "--json", "-n", "1", "-q").stdout)["prompt_ids"]
        json.dump({"chat_template": 7}, open(d + "/p/chat_template.json", "w"))
        assert b"warning: chat_template.json: chat_template: a text" in tpshard("convert", d + "/p", "-o", d + "/r", "--no-selftest").stderr
        error_line(tpshard("convert", d + "/p", "-o", d + "/s", "--no-selftest", "--strict", status=3), 3, "chat_template.json")


def test_a_turn_ends_where_the_template_ends_it():
    """The demo's end of turn is <|im_end|>; with another template it is what that one puts there."""
    with Folder() as d:
        # no end tokens but eos_token and the template's: a sequence that the model ends with id 2 goes on
        for name, template, stops in (("im", None, True), ("none", "{% for m in messages %}{{ m.content }}\n{% endfor %}", False)):
            path = folder_with(f"{d}/{name}", template, **({} if template else {"chat_template": json.load(open(DEMO + "/tokenizer_config.json"))["chat_template"]}))
            json.dump({"eos_token_id": 0}, open(path + "/generation_config.json", "w"))
            convert(path, f"{d}/{name}-b")
            with open(d + "/p", "w") as f:
                for i in range(40):
                    f.write(json.dumps({"messages": [{"role": "user", "content": f"Story {i}"}]}) + "\n")
            done = tprun("generate", f"{d}/{name}-b", "--chat", "--prompts", d + "/p", "--json", "-n", "40", "--temp", "1.5", "-q")
            answers = [json.loads(l) for l in done.stdout.splitlines()]
            ended = [a for a in answers if 2 in a["ids"]]
            assert ended, "no answer had the token"
            for a in ended:
                assert (a["ids"].index(2) == len(a["ids"]) - 1 and a["finish"] == "eos") == stops or a["ids"][-1] == 2, a


harness.main(globals())
