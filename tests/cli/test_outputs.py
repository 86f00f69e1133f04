#!/usr/bin/env python3
"""Where outputs go, and what stands in their way: decided before any work, nothing of anybody's touched."""
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import json

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import Folder, Skip, checkpoint, error_line, run, tiny_model, tprun, tpshard, tree_bytes


class World(Folder):
    """A folder with two models m and n, and a bundle of each, b and c (other values, other degrees)."""

    def __enter__(self):
        self.dir, self.running = super().__enter__(), []
        tiny_model(self.at("m"))
        tiny_model(self.at("n"), vocab_size=48)
        self.convert("m", "b", "--tp", "2")
        self.convert("n", "c", "--tp", "3")
        return self

    def __exit__(self, *why):
        for p in self.running:  # a test that failed leaves no stopped process
            p.kill()
            p.wait()
        super().__exit__(*why)

    def at(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, data, *names):
        with open(self.at(*names), "w") as f:
            f.write(data)

    def read(self, *names):
        return open(self.at(*names)).read()

    def tpshard(self, *args, status=0, **kw):
        return tpshard(*args, status=status, cwd=self.dir, **kw)

    def convert(self, model, out, *args, status=0, fault=None):
        env = dict(os.environ, **({"TP_FAULT": fault} if fault else {}))
        return self.tpshard("convert", model, "-o", out, "-q", "--no-selftest", *args, status=status, env=env)

    def stopped(self, fault, *args):
        """A command of tpshard, stopped at a call on files."""
        p = subprocess.Popen([harness.TPSHARD, *args, "-q"], cwd=self.dir, env=dict(os.environ, TP_FAULT=f"stop:{fault}"),
                             stderr=subprocess.PIPE)
        self.running.append(p)
        assert os.WIFSTOPPED(os.waitpid(p.pid, os.WUNTRACED)[1]), "it ended before"
        return p

    def go_on(self, p, status, *names):
        p.send_signal(signal.SIGCONT)
        stderr = p.communicate()[1]
        done = subprocess.CompletedProcess([], p.returncode, b"", stderr)
        if status:
            error_line(done, status, *names)
        assert p.returncode == status, stderr

    def names(self, *where):
        return sorted(os.listdir(self.at(*where)))

    def refused(self, status, done, *names):
        """Refused, and nothing in the world is other than before."""
        before = snapshot(self.dir)
        error_line(done(), status, *names)
        assert snapshot(self.dir) == before

    def same(self, a, b):
        assert tree_bytes(self.at(a)) == tree_bytes(self.at(b)), f"{a} is not {b}"


def snapshot(folder):
    """Everything below a folder: bytes, links, kinds, modes"""
    found = {}
    for base, folders, files in os.walk(folder):
        for n in folders + files:
            p = os.path.join(base, n)
            st = os.lstat(p)
            what = open(p, "rb").read() if stat.S_ISREG(st.st_mode) else os.readlink(p) if stat.S_ISLNK(st.st_mode) else None
            found[os.path.relpath(p, folder)] = (st.st_mode, what)
    return found


COMMANDS = {"convert": ("convert", "m", "--no-selftest"), "reshard": ("reshard", "b", "--tp", "3"), "export": ("export", "b")}


# ---- decided first ----

def test_what_can_never_be_an_output_is_refused_at_once_with_force_or_not():
    with World() as w:
        w.write("mine", "file")
        os.mkdir(w.at("model"))
        w.write("{}", "model", "config.json")
        os.mkdir(w.at("notes"))
        w.write("mine", "notes", "thesis.tex")
        os.symlink("file", w.at("link-to-file"))
        os.symlink("model", w.at("link-to-model"))
        os.mkfifo(w.at("fifo"))
        os.mkdir(w.at("damaged"))
        w.write('{"format": "tpshard bundle"}', "damaged", "manifest.json")
        for args in COMMANDS.values():
            for out in ("file", "file/b", "file/b/c", "model", "notes", "link-to-file", "link-to-file/b", "link-to-model", "fifo",
                        "damaged", ".", "..", "/", w.dir):
                for force in ((), ("--force",)):
                    w.refused(2, lambda: w.tpshard(*args, "-o", out, "-q", *force, status=None))


def test_the_input_and_what_is_around_it_are_no_outputs():
    with World() as w:
        os.symlink("m", w.at("link"))
        os.mkdir(w.at("around"))
        shutil.copytree(w.at("b"), w.at("around", "b"))
        shutil.copytree(w.at("m"), w.at("around", "m"))
        shutil.copytree(w.at("m"), w.at("x.partial"))
        for args, out in ((("convert", "m"), "m"), (("convert", "link"), "m"), (("convert", "m"), "link"), (("convert", "around/m"), "around"),
                          (("convert", "x.partial"), "x"), (("reshard", "b", "--tp", "3"), "b"), (("reshard", "around/b", "--tp", "3"), "around"),
                          (("export", "b"), "b"), (("export", "around/../b"), "b")):
            for force in ((), ("--force",)):
                w.refused(2, lambda: w.tpshard(*args, "-o", out, "-q", *(force if args[0] != "export" or force else ()), status=None), "read")
        w.convert("m", "m/out", "--tp", "2")  # in the input is fine
        w.same("m/out", "b")


def test_a_mount_point_is_no_output():
    with World() as w:
        os.mkdir(w.at("mnt"))
        script = f"""mount -t tmpfs -o size=8m tmpfs {w.at('mnt')} || exit 99
            {harness.TPSHARD} convert {w.at('m')} -o {w.at('mnt')} --no-selftest -q --force; echo $?; ls {w.at('mnt')}
            {harness.TPSHARD} convert {w.at('m')} -o {w.at('mnt')}/b --tp 2 --no-selftest -q; echo $?; ls {w.at('mnt')}/b | wc -l
            mount --bind {w.at('n')} {w.at('c')}; {harness.TPSHARD} export {w.at('b')} -o {w.at('c')} --force -q; echo $?
            mount -o remount,ro {w.at('mnt')}; {harness.TPSHARD} export {w.at('b')} -o {w.at('mnt')}/x -q; echo $?"""
        done = run(["unshare", "-m", "sh", "-c", script], None)
        if done.returncode == 99 or not done.stdout:
            raise Skip("no right to mount")
        out = done.stdout.decode().split()
        assert out[0] == "2" and out[1] == "0" and out[2] == str(len(w.names("b"))) and out[3:] == ["2", "5"], done
        assert b"mount point" in done.stderr and not os.path.exists(w.at("mnt.partial")), done.stderr


def test_a_full_file_system_gives_exit_5_and_the_same_command_goes_on():
    with World() as w:
        os.mkdir(w.at("mnt"))
        convert = f"{harness.TPSHARD} convert {checkpoint('mqa-bias')} -o {w.at('mnt')}/b --tp 2 --no-selftest -q"
        script = f"""mount -t tmpfs -o size=1m tmpfs {w.at('mnt')} || exit 99
            {convert}; echo $?; ls {w.at('mnt')}; mount -o remount,size=64m {w.at('mnt')}; {convert}; echo $?; {harness.TPSHARD} verify {w.at('mnt')}/b -q; echo $?
            ls {w.at('mnt')}; mount -t tmpfs -o nr_inodes=4 tmpfs {w.at('c')}; {convert.replace(w.at('mnt'), w.at('c'))}; echo $?"""
        done = run(["unshare", "-m", "sh", "-c", script], None)
        if done.returncode == 99 or not done.stdout:
            raise Skip("no right to mount")
        assert done.stdout.decode().split() == ["5", "0", "0", "b", "5"], done
        assert done.stderr.count(b"No space left") == 2 and b"mnt/b: needs " in done.stderr, done.stderr


def test_a_link_means_where_it_leads():
    with World() as w:
        os.makedirs(w.at("disk", "empty"))
        for link, target, made in (("a", "disk/empty", "disk/empty"), ("d", "disk/new", "disk/new"), ("e", w.at("disk", "far"), "disk/far"),
                                   ("f", "e2", "disk/chain")):
            os.symlink(target, w.at(link))
            if link == "f":
                os.symlink("disk/chain", w.at("e2"))
            w.convert("m", link, "--tp", "2")
            assert os.readlink(w.at(link)) == target
            w.same(made, "b")
        assert w.names("disk") == ["chain", "empty", "far", "new"]
        w.convert("n", "a", "--tp", "3", "--force")
        w.same("disk/empty", "c")
        os.symlink("nowhere/x", w.at("dangling"))
        os.symlink("loop2", w.at("loop"))
        os.symlink("loop", w.at("loop2"))
        for link in ("dangling", "loop", "nowhere/b"):
            w.refused(5, lambda: w.convert("m", link, status=None))


def test_an_empty_folder_is_taken_and_a_dot_is_the_folder_it_is():
    with World() as w:
        os.mkdir(w.at("empty"))
        done = tpshard("convert", "../m", "-o", ".", "-q", "--no-selftest", "--tp", "2", cwd=w.at("empty"))
        assert not done.stderr
        w.same("empty", "b")


# ---- the staging folder ----

def test_a_staging_folder_that_is_not_ours_is_left_alone():
    with World() as w:
        places = {"folder with files": lambda p: (os.mkdir(p), w.write("mine", "x.partial", "config.json"), w.write("j\n", "x.partial", "journal")),
                  "bundle": lambda p: shutil.copytree(w.at("c"), p), "checkpoint": lambda p: shutil.copytree(w.at("n"), p),
                  "file": lambda p: w.write("mine", "x.partial"), "link to a folder": lambda p: os.symlink("c", p),
                  "dangling link": lambda p: os.symlink("nowhere", p), "fifo": os.mkfifo,
                  "folder with raw": lambda p: (os.makedirs(p + "/raw"), w.write("mine", "x.partial", "raw", "thesis.tex")),
                  "folder with a link raw": lambda p: (os.mkdir(p), os.symlink("../c", p + "/raw")),
                  "somebody's names": lambda p: (os.mkdir(p), w.write("mine", "x.partial", "names"))}
        for what, make in places.items():
            make(w.at("x.partial"))
            for args in COMMANDS.values():
                for more in ((), ("--restart",), ("--force",)):
                    w.refused(5, lambda: w.tpshard(*args, "-o", "x", "-q", *more, status=None), "x.partial")
            p = w.at("x.partial")
            shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.unlink(p)


def test_an_empty_one_or_a_torn_beginning_is_taken():
    with World() as w:
        full = w.at("x.partial", "names")
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:create:2")
        begun = open(full, "rb").read()
        shutil.rmtree(w.at("x.partial"))
        for name, data in (("names", None), ("names", b""), ("names", begun[:13]), ("names", begun[:64]), ("names", bytes(64)), ("names", begun[:100]), ("journal", b"")):
            os.mkdir(w.at("x.partial"))
            if data is not None:
                open(w.at("x.partial", name), "wb").write(data)
            w.convert("m", "x", "--tp", "2")
            w.same("x", "b")
            shutil.rmtree(w.at("x"))
            assert "x.partial" not in w.names()


def test_the_staging_folder_of_another_user_is_left_alone():
    if os.getuid():
        raise Skip("needs root")
    with World() as w:
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:60")
        os.chown(w.at("x.partial"), 12345, 12345)
        w.refused(5, lambda: w.convert("m", "x", "--tp", "2", status=None), "x.partial", "user")


def test_it_can_be_copied_and_goes_on_elsewhere():
    with World() as w:
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:110")
        os.mkdir(w.at("other"))
        run(["cp", "-r", w.at("x.partial"), w.at("other", "y.partial")])
        done = w.tpshard("convert", "m", "-o", "other/y", "--no-selftest", "--tp", "2")
        assert b"from the interrupted run" in done.stderr, done.stderr
        w.same("other/y", "b")


def test_somebodys_file_in_it_is_named_and_stays():
    with World() as w:
        for name in ("notes.txt", "config.json", "manifest.json", "rank-001-of-002.tps", "raw", "selftest.json"):
            for fault in ("kill:create:3", "kill:sync:12", "kill:rename:1"):
                w.convert("m", "x", "--tp", "2", status=-9, fault=fault)
                path = w.at("x.partial", name)
                if os.path.exists(path):
                    os.unlink(path)
                w.write("this is mine\n" * 1000, "x.partial", name)
                for more in ((), ("--restart",), ("--force", "--restart")):
                    done = w.convert("m", "x", "--tp", "2", *more, status=None)
                    assert done.returncode in (5, 7), (name, fault, done)
                    error_line(done, done.returncode, name)
                    assert w.read("x.partial", name) == "this is mine\n" * 1000, (name, fault, more)
                os.rename(path, w.at("mine"))
                w.convert("m", "x", "--tp", "2")
                w.same("x", "b")
                shutil.rmtree(w.at("x"))
                assert "x.partial" not in w.names(), (name, fault)


def test_a_file_that_comes_while_it_is_made_is_named_and_stays():
    with World() as w:
        for make in (lambda p: open(p, "w").write("mine"), os.mkdir, os.mkfifo, lambda p: os.symlink("../m", p)):
            p = w.stopped("rename:1", "convert", "m", "-o", "x", "--no-selftest", "--tp", "2")
            make(w.at("x.partial", "notes"))
            w.go_on(p, 5, "notes")
            assert os.path.lexists(w.at("x.partial", "notes")) and not os.path.exists(w.at("x"))
            os.rename(w.at("x.partial", "notes"), w.at("mine"))
            w.convert("m", "x", "--tp", "2")
            w.same("x", "b")
            shutil.rmtree(w.at("x"))
            run(["rm", "-rf", w.at("mine")])


def test_restart_deletes_what_the_abandoned_run_made_and_nothing_else():
    with World() as w:
        w.convert("n", "x", "--tp", "5", "--compress", "zstd", status=-9, fault="kill:150")
        assert any("raw" in n for n in w.names("x.partial"))
        error_line(w.convert("m", "x", "--tp", "2", status=None), 8, "--restart")
        w.convert("m", "x", "--tp", "2", "--restart")
        w.same("x", "b")
        shutil.rmtree(w.at("x"))
        w.convert("n", "x", "--tp", "5", status=-9, fault="kill:60")
        w.write("mine", "x.partial", "notes.txt")
        before = snapshot(w.at("x.partial"))
        error_line(w.convert("m", "x", "--tp", "2", "--restart", status=None), 5, "notes.txt")
        assert snapshot(w.at("x.partial")) == before


# ---- publishing ----

def test_what_comes_to_the_outputs_name_meanwhile_is_not_replaced():
    with World() as w:
        for what, make in {"bundle": lambda p: shutil.copytree(w.at("c"), p), "folder": lambda p: (os.mkdir(p), w.write("mine", "x", "config.json")),
                           "file": lambda p: w.write("mine", "x"), "link": lambda p: os.symlink("c", p), "empty folder": os.mkdir,
                           "fifo": os.mkfifo}.items():
            for args in COMMANDS.values():
                p = w.stopped("rename:1", *args, "-o", "x")
                make(w.at("x"))
                before = snapshot(w.dir)
                w.go_on(p, 2, "x.partial")
                after = snapshot(w.dir)
                assert all(after[n] == before[n] for n in before if n.split("/")[0] in ("x", "c")), (what, args)
                os.rename(w.at("x"), w.at("theirs"))
                w.tpshard(*args, "-o", "x", "-q")  # what was made is published now
                w.tpshard("verify", "x", "-q") if args[0] != "export" else None
                assert "x.partial" not in w.names()
                run(["rm", "-rf", w.at("x"), w.at("theirs")])


def test_force_replaces_the_bundle_that_was_there_and_no_other():
    with World() as w:
        for what, change in {"exchanged": lambda: (os.rename(w.at("x"), w.at("y")), shutil.copytree(w.at("m"), w.at("x"))),
                             "converted anew": lambda: (shutil.rmtree(w.at("x")), w.convert("m", "y", "--tp", "4"), os.rename(w.at("y"), w.at("x"))),
                             "gone": lambda: os.rename(w.at("x"), w.at("y")),
                             "its manifest edited": lambda: open(w.at("x", "manifest.json"), "a").write("\n")}.items():
            shutil.copytree(w.at("c"), w.at("x"))
            p = w.stopped("rename:1", "convert", "m", "-o", "x", "--no-selftest", "--tp", "2", "--force")
            change()
            before = snapshot(w.at("x")) if os.path.exists(w.at("x")) else None
            w.go_on(p, 2, "x.partial")
            assert before is None or snapshot(w.at("x")) == before, what
            run(["rm", "-rf", w.at("x"), w.at("y")])
            w.convert("m", "x", "--tp", "2", "--force")
            w.same("x", "b")
            shutil.rmtree(w.at("x"))


def test_of_an_old_bundle_only_its_own_files_go():
    with World() as w:
        shutil.copytree(w.at("c"), w.at("x"))
        w.write("mine", "x", "notes.txt")
        os.makedirs(w.at("x", "sub", "deep"))
        w.write("mine", "x", "sub", "deep", "a")
        os.mkfifo(w.at("x", "fifo"))
        os.symlink("nowhere", w.at("x", "link"))
        rank = w.at("x", "rank-002-of-003.tps")  # not a name of the new one: it is edited, and stays
        data = bytearray(open(rank, "rb").read())
        data[-5000] ^= 1
        open(rank, "wb").write(data)
        w.convert("m", "x", "--tp", "2", "--force")
        assert w.names("x") == sorted([*w.names("b"), "notes.txt", "sub", "fifo", "link", "rank-002-of-003.tps"])
        assert w.read("x", "sub", "deep", "a") == "mine" and open(rank, "rb").read() == data
        done = w.tpshard("verify", "x")
        assert b"note" in done.stderr and b"5 names" in done.stderr and b"every byte" in done.stdout, done


def test_a_file_that_both_would_have_is_found_at_the_start():
    with World() as w:
        edits = {"config.json": lambda p: open(p, "a").write(" "), "rank-000-of-002.tps": lambda p: open(p, "r+b").write(b"mine"),
                 "journal": lambda p: open(p, "w").write("mine"), "manifest.json/": None}
        for name, edit in edits.items():
            if not edit:
                continue
            shutil.copytree(w.at("b"), w.at("x"))
            edit(w.at("x", name))
            w.refused(2, lambda: w.convert("m", "x", "--tp", "2", "--force", status=None), name)
            shutil.rmtree(w.at("x"))


def test_what_comes_into_the_old_bundle_meanwhile_moves_along_or_is_in_the_way():
    with World() as w:
        shutil.copytree(w.at("c"), w.at("x"))
        p = w.stopped("rename:1", "convert", "m", "-o", "x", "--no-selftest", "--tp", "2", "--force")
        w.write("mine", "x", "late.txt")
        w.go_on(p, 0)
        assert w.read("x", "late.txt") == "mine"
        os.unlink(w.at("x", "late.txt"))
        w.same("x", "b")
        shutil.rmtree(w.at("x"))
        shutil.copytree(w.at("c"), w.at("x"))
        p = w.stopped("rename:1", "convert", "m", "-o", "x", "--no-selftest", "--tp", "2", "--force")
        os.mkdir(w.at("x", "rank-000-of-002.tps"))
        w.go_on(p, 2, "rank-000-of-002.tps")
        os.rmdir(w.at("x", "rank-000-of-002.tps"))
        w.same("x", "c")


def test_a_publish_that_was_killed_is_tidied_by_the_next_command():
    with World() as w:
        for args in (("convert", "m", "--no-selftest", "--tp", "2", "--force"), ("reshard", "c", "--tp", "2", "--force"), ("export", "b", "--force")):
            for fault in ("kill:unlink:1", "kill:unlink:3", "kill:sync_dir:5"):
                shutil.copytree(w.at("c"), w.at("x"))
                w.write("mine", "x", "notes.txt")
                w.convert("n", "x", "--tp", "1", "--force", status=-9, fault=fault)
                w.tpshard(*args, "-o", "x", "-q") if os.path.exists(w.at("x", "journal")) or "x.partial" not in w.names() else \
                    w.tpshard(*args, "-o", "x", "-q", "--restart")
                assert "x.partial" not in w.names() and "journal" not in w.names("x"), (args, fault)
                assert w.read("x", "notes.txt") == "mine"
                os.unlink(w.at("x", "notes.txt"))
                if args[0] == "convert":
                    w.same("x", "b")
                shutil.rmtree(w.at("x"))


def test_inputs_are_compared_after_a_kill_between_publishing_and_tidying():
    with World() as w:
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:unlink:1")
        assert "journal" in w.names("x")
        shutil.copytree(w.at("x"), w.at("kept"))
        w.convert("m", "x", "--tp", "2")
        w.same("x", "b")
        for more, status in (((), 7), (("--force",), 0)):
            shutil.rmtree(w.at("x"))
            shutil.copytree(w.at("kept"), w.at("x"))
            data = bytearray(open(w.at("m", "model.safetensors"), "rb").read())
            data[-2] ^= 1
            open(w.at("m", "model.safetensors"), "wb").write(data)
            done = w.convert("m", "x", "--tp", "2", *more, status=None)
            error_line(done, 7, "model.safetensors") if status else done.check_returncode()
        w.convert("m", "fresh", "--tp", "2")
        w.same("x", "fresh")


def test_a_source_changed_with_size_and_times_kept_is_noticed_on_resume():
    with World() as w:
        for fault in ("kill:100", "kill:rename:2"):
            w.convert("m", "x", "--tp", "2", status=-9, fault=fault)
            path = w.at("m", "model.safetensors")
            data, st = bytearray(open(path, "rb").read()), os.stat(path)
            n = struct.unpack_from("<Q", data)[0]
            for i in range(8 + n, len(data), 2):
                data[i] ^= 1
            open(path, "r+b").write(data)
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
            done = w.convert("m", "x", "--tp", "2", status=None)
            if done.returncode:  # nothing of it was on record yet
                error_line(done, 7, "--restart")
                w.convert("m", "x", "--tp", "2", "--restart")
            w.convert("m", "fresh", "--tp", "2")
            w.same("x", "fresh")
            run(["rm", "-rf", w.at("x"), w.at("fresh")])


def test_times_and_stops_have_no_effect():
    with World() as w:
        os.utime(w.at("m", "model.safetensors"), (4e9, 4e9))  # in the future
        for call in ("create:2", "write:9", "sync:4", "rename:2"):
            p = w.stopped(call, "convert", "m", "-o", "x", "--no-selftest", "--tp", "2")
            w.go_on(p, 0)
            w.same("x", "b")
            shutil.rmtree(w.at("x"))


def test_no_chunk_of_the_old_source_survives_in_a_resumed_bundle():
    """Kills at every sync, then another source of the same size and times: refused, or wholly the new one."""
    with World() as w:
        path = w.at("m", "model.safetensors")
        old, st = open(path, "rb").read(), os.stat(path)
        new, n = bytearray(old), struct.unpack_from("<Q", old)[0]
        for i in range(8 + n, len(new), 2):
            new[i] ^= 1
        open(path, "r+b").write(new)
        w.convert("m", "want", "--tp", "2")
        for k in range(1, 40, harness.SHARE):
            for data in (old, new):
                open(path, "r+b").write(data)
                os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
                if data is old and w.convert("m", "x", "--tp", "2", status=None, fault=f"kill:sync:{k}").returncode == 0:
                    return
            done = w.convert("m", "x", "--tp", "2", status=None)
            if done.returncode:
                error_line(done, 7)
                w.convert("m", "x", "--tp", "2", "--restart" if "x" not in w.names() else "--force")
            w.same("x", "want")
            shutil.rmtree(w.at("x"))


def test_what_was_damaged_while_it_lay_there_is_mended_or_named():
    """Staged rank files: a byte of the data, of the padding, of the head, of a complete one."""
    with World() as w:
        for fault in ("kill:rename:3", "kill:rename:4", "kill:rename:5"):
            for at in (0, 40, 5000, 8192, 8500, 9276, -1, -3000):
                w.convert("m", "x", "--tp", "2", status=-9, fault=fault)
                path = w.at("x.partial", "rank-001-of-002.tps")
                data = bytearray(open(path, "rb").read())
                data[at] ^= 1
                open(path, "r+b").write(data)
                done = w.convert("m", "x", "--tp", "2", status=None)
                if done.returncode:
                    error_line(done, done.returncode, "rank-001")
                    assert done.returncode in (5, 7), done
                    os.unlink(path)
                    w.convert("m", "x", "--tp", "2", "--restart")
                w.same("x", "b")
                shutil.rmtree(w.at("x"))


def test_a_file_edited_after_it_was_made_is_not_published():
    with World() as w:
        for fault in ("rename:2", "rename:3"):
            p = w.stopped(fault, "convert", "m", "-o", "x", "--no-selftest", "--tp", "2")
            open(w.at("x.partial", "config.json"), "a").write("\n")
            w.go_on(p, 5, "config.json")
            run(["rm", "-rf", w.at("x"), w.at("x.partial")])


def test_weights_that_lie_in_what_would_be_replaced_are_no_input():
    with World() as w:
        w.tpshard("export", "b", "-o", "e", "-q")
        os.mkdir(w.at("linked"))
        shutil.copy(w.at("m", "config.json"), w.at("linked"))
        os.symlink("../e/model.safetensors", w.at("linked", "model.safetensors"))
        w.refused(2, lambda: w.convert("linked", "e", "--force", status=None), "model.safetensors")
        w.convert("linked", "x", "--tp", "2")
        w.same("x", "b")


def test_a_tidy_that_fails_says_so_until_it_is_done():
    with World() as w:
        shutil.copytree(w.at("c"), w.at("x"))
        w.write("mine", "x", "notes.txt")
        args = ("m", "x", "--tp", "2", "--force")
        w.convert(*args, status=-9, fault="kill:unlink:1")
        for fault in ("eio:unlink:2", "eio:rename:1"):
            done = w.convert(*args, status=None, fault=fault)
            error_line(done, 5, "x.partial", "run the same command again")
            w.write("mine", "x.partial", "notes.txt")
            if "notes.txt" in w.names("x"):
                os.unlink(w.at("x", "notes.txt"))
        os.mkdir(w.at("x", "notes.txt"))  # its name is taken in the new folder
        for _ in range(2):
            error_line(w.convert(*args, status=None), 5, "x.partial", "notes.txt")
            assert w.read("x.partial", "notes.txt") == "mine"
        os.rmdir(w.at("x", "notes.txt"))
        w.convert(*args)
        assert w.read("x", "notes.txt") == "mine" and "x.partial" not in w.names()
        os.unlink(w.at("x", "notes.txt"))
        w.same("x", "b")


def test_a_manifest_that_came_after_the_publish_is_not_taken_for_the_one_that_was_made():
    with World() as w:
        w.convert("m", "other", "--quant", "int8", "--tp", "2")
        w.tpshard("export", "b", "-o", "eb", "-q")
        w.tpshard("export", "other", "-o", "eo", "-q")
        for args, other in ((("convert", "m", "--no-selftest", "--tp", "2"), "other"), (("reshard", "c", "--tp", "2"), "other"),
                            (("export", "b"), "eo")):
            for force in ((), ("--force",)):
                w.tpshard(*args, "-o", "x", "-q", status=-9, env=dict(os.environ, TP_FAULT="kill:unlink:1"))
                for n in w.names(other):
                    shutil.copy(w.at(other, n), w.at("x", n))
                w.refused(2 if force else 7, lambda: w.tpshard(*args, "-o", "x", "-q", *force, status=None), "x")
                shutil.rmtree(w.at("x"))
        # nor is a log in somebody's bundle
        w.tpshard("export", "b", "-o", "x", "-q", status=-9, env=dict(os.environ, TP_FAULT="kill:unlink:1"))
        shutil.copytree(w.at("c"), w.at("y"))
        shutil.copy(w.at("x", "journal"), w.at("y"))
        w.refused(7, lambda: w.tpshard("export", "b", "-o", "y", "-q", status=None), "y")
        w.refused(2, lambda: w.convert("m", "y", status=None), "y")


def test_a_folder_that_was_to_be_exchanged_and_was_not_is_nobodys_but_its_owners():
    with World() as w:
        found = 0
        for k in range(1, 60):
            shutil.copytree(w.at("c"), w.at("x"))
            if w.convert("m", "x", "--tp", "2", "--force", status=None, fault=f"kill:rename:{k}").returncode == 0:
                break
            if w.names("x") == w.names("c"):  # not exchanged: its owner takes it away
                os.rename(w.at("x"), w.at("saved"))
                w.convert("m", "x", "--tp", "2", status=-9, fault="kill:unlink:1")
                assert "x.partial" not in w.names()
                os.rename(w.at("saved"), w.at("x.partial"))
                w.convert("m", "x", "--tp", "2")
                w.same("x.partial", "c")
                found += 1
            run(["rm", "-rf", w.at("x"), w.at("x.partial")])
        assert found > 3


def test_paths_that_are_too_long_are_not_cut():
    with World() as w:
        shutil.copytree(w.at("c"), w.at("victim-and-mo"))
        for out in ("./" * 2041 + "victim-and-more", "./" * 2040 + "somewhere-else-with-a-name", "./" * 2100):
            for args in COMMANDS.values():
                w.refused(6, lambda: w.tpshard(*args, "-o", out, "-q", "--force", status=None))


def test_what_would_be_read_through_links_is_not_replaced():
    """Files of a bundle that lead elsewhere are refused before what is there is looked at."""
    with World() as w:
        for linked, inside in (("rank-000-of-002.tps",) * 2, ("config.json",) * 2, ("config.json", "mine/config.json")):
            shutil.copytree(w.at("b"), w.at("b2"))
            shutil.copytree(w.at("b"), w.at("x"))
            os.mkdir(w.at("x", "mine"))
            shutil.copy(w.at("b", "config.json"), w.at("x", "mine"))
            os.unlink(w.at("b2", linked))
            os.symlink(w.at("x", inside), w.at("b2", linked))
            for args in (("reshard", "b2", "--tp", "1"), ("export", "b2")):
                w.refused(3, lambda: w.tpshard(*args, "-o", "x", "-q", "--force", status=None), linked, "link out of the folder")
            shutil.rmtree(w.at("b2"))
            shutil.rmtree(w.at("x"))


def test_a_log_that_is_somebodys_is_looked_at_and_no_more():
    with World() as w:
        shutil.copytree(w.at("c"), w.at("x"))
        w.convert("m", "z", "--tp", "2", status=-9, fault="kill:rename:3")
        log = open(w.at("z.partial", "names"), "rb").read()
        for text in (log + b"notes on that crash", log + bytes(200), log[:100], b""):
            open(w.at("x", "journal"), "wb").write(text)
            w.refused(2, lambda: w.convert("m", "x", "--tp", "2", status=None), "x")


def test_what_cannot_move_is_refused_before_the_exchange():
    with World() as w:
        if os.getuid() != 0:
            raise Skip("needs root, to be another")
        if not hasattr(os, "setresuid") or run(["unshare", "-m", "true"], status=None).returncode:
            raise Skip("no mount namespaces here")
        shutil.copytree(w.at("c"), w.at("x"))
        os.mkdir(w.at("x", "mnt"))
        script = 'mount -t tmpfs none x/mnt && exec "$@"'
        done = run(["unshare", "-m", "sh", "-c", script, "sh", harness.TPSHARD, "convert", "m", "-o", "x", "--force", "-q"],
                   status=None, cwd=w.dir)
        error_line(done, 2, "mnt", "mount point")
        os.rmdir(w.at("x", "mnt"))
        w.same("x", "c")

        os.chmod(w.dir, 0o755)
        os.mkdir(w.at("theirs"))
        shutil.copytree(w.at("c"), w.at("theirs", "x"))
        os.mkdir(w.at("theirs", "x", "sub"))
        for base, folders, _ in os.walk(w.at("theirs")):
            os.chown(base, 65534, 65534)
        other = lambda mask=0o022: dict(cwd=w.dir, user=65534, group=65534, extra_groups=[], umask=mask)
        args = [harness.TPSHARD, "convert", "m", "-o", "theirs/x", "--tp", "2", "--force", "-q", "--no-selftest"]
        if run(["true"], status=None, **other()).returncode or not os.access(harness.TPSHARD, os.X_OK):
            raise Skip("no other user can be")
        for path, mode in ((("theirs", "x", "sub"), 0o555), (("theirs", "x"), 0o555)):
            os.chmod(w.at(*path), mode)
            w.refused(2, lambda: run(args, status=None, **other()), path[-1])
            os.chmod(w.at(*path), 0o755)
        w.refused(2, lambda: run(args, status=None, **other(0o300)), "umask")
        run(args, **other())
        assert w.names("theirs", "x") == sorted(w.names("b") + ["sub"])


def test_a_source_that_changed_is_seen_by_reshard_and_export_too():
    with World() as w:
        for args in (("reshard", "cc", "--tp", "1"), ("export", "cc")):
            for name in ("rank-000-of-003.tps", "config.json"):
                for fault in ("kill:rename:2", "kill:rename:5", "kill:unlink:1"):
                    shutil.copytree(w.at("c"), w.at("cc"))
                    w.tpshard(*args, "-o", "x", "-q", status=-9, env=dict(os.environ, TP_FAULT=fault))
                    data = bytearray(open(w.at("cc", name), "rb").read())
                    at = 8192 if len(data) > 8192 else len(data) - 1
                    data[at] ^= 1
                    open(w.at("cc", name), "wb").write(data)
                    error_line(w.tpshard(*args, "-o", "x", "-q", status=None), 7, name)
                    run(["rm", "-rf", w.at("x"), w.at("x.partial"), w.at("cc")])


def test_a_file_with_two_names_is_not_taken_over():
    with World() as w:
        os.chmod(w.at("m", "config.json"), 0o600)
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:rename:3")
        os.link(w.at("m", "config.json"), w.at("x.partial", "config.json"))
        for restart in ((), ("--restart",)):
            w.refused(5, lambda: w.convert("m", "x", "--tp", "2", *restart, status=None), "config.json")
        os.unlink(w.at("x.partial", "config.json"))
        w.convert("m", "x", "--tp", "2")
        w.same("x", "b")


def test_zeros_are_no_proof():
    with World() as w:
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:rename:1")
        for n in (0, 20, 64):
            open(w.at("x.partial", "rank-000-of-002.tps"), "wb").write(bytes(n))
            w.refused(5, lambda: w.convert("m", "x", "--tp", "2", status=None), "rank-000")
        os.unlink(w.at("x.partial", "rank-000-of-002.tps"))
        w.convert("m", "x", "--tp", "2")


def test_restart_begins_anew_where_the_log_is_damaged():
    with World() as w:
        w.convert("m", "x", "--tp", "2", status=-9, fault="kill:60")
        log = open(w.at("x.partial", "names"), "rb").read()
        for at in range(0, len(log) - 256, 64):
            shutil.copytree(w.at("x.partial"), w.at("y.partial"))
            open(w.at("y.partial", "names"), "r+b").write(log[:at] + b"\xff" * 8 + log[at + 8:])
            if w.convert("m", "y", "--tp", "2", status=None).returncode:
                w.convert("m", "y", "--tp", "2", "--restart")
            w.same("y", "b")
            shutil.rmtree(w.at("y"))


def test_a_file_that_is_read_is_not_replaced_by_one_that_is_written():
    with World() as w:
        shutil.copytree(checkpoint("yarn"), w.at("t"))
        os.symlink("tokenizer.json", w.at("t", "link"))
        for out in ("t/tokenizer.json", "t/model.safetensors", "t/config.json", "t/link"):
            w.refused(2, lambda: w.tpshard("tokenizer", "t", "-o", out, "-q", status=None), "read")
        for _ in range(2):
            w.tpshard("tokenizer", "t", "-o", "t/compiled.tpt", "-q")
        ids = ("--prompt-ids", "1", "-q")
        for out in ("b/manifest.json", "b/rank-000-of-002.tps", "b/config.json"):
            w.refused(2, lambda: tprun("logits", "b", "-o", out, *ids, cwd=w.dir, status=None), "read")
            w.refused(2, lambda: tprun("generate", "b", "--ids", "--trace", out, *ids, cwd=w.dir, status=None), "read")
        for _ in range(2):
            tprun("logits", "b", "-o", "b/mine", *ids, cwd=w.dir)
        w.refused(2, lambda: tprun("logits", "b", "-o", "/dev/stdout", "--trace", "-", *ids, cwd=w.dir, status=None), "both")
        tprun("logits", "b", "-o", "/dev/null", "--trace", "/dev/null", *ids, cwd=w.dir)


def test_an_output_may_begin_with_a_dash():
    with World() as w:
        for out in ("-x", "--", "./-"):
            w.tpshard("convert", "m", "-o", out, "-q", "--tp", "2", "--force")
            w.tpshard("verify", os.path.join(".", out), "-q")


# ---- two writers ----

def test_of_two_writers_one_works_and_the_other_is_told_who():
    with World() as w:
        pairs = (("convert", "convert"), ("convert", "export"), ("export", "export"), ("reshard", "convert"), ("export", "reshard"))
        for first, second in pairs:
            for fault in ("create:2", "write:6", "sync_dir:3", "rename:2"):
                p = w.stopped(fault, *COMMANDS[first], "-o", "x")
                done = w.tpshard(*COMMANDS[second], "-o", "x", "-q", status=None)
                error_line(done, 5, f"pid {p.pid}")
                w.go_on(p, 0)
                assert "x.partial" not in w.names()
                shutil.rmtree(w.at("x"))
        p = w.stopped("unlink:1", *COMMANDS["convert"], "-o", "x")  # published, at its last call
        error_line(w.tpshard(*COMMANDS["export"], "-o", "x", "-q", "--force", status=None), 5, f"pid {p.pid}")
        p.kill()
        p.wait()
        w.tpshard(*COMMANDS["export"], "-o", "x", "-q", "--force")  # a killed one leaves no lock
        assert "x.partial" not in w.names() and "tpshard-export.json" in w.names("x")


def test_a_writer_that_comes_too_late_leaves_nothing_in_the_others_folder():
    with World() as w:
        p = w.stopped("create:1", *COMMANDS["convert"], "-o", "x")  # its folder is made, its log not yet
        w.tpshard(*COMMANDS["convert"], "-o", "x", "-q")
        before = snapshot(w.at("x"))
        w.go_on(p, 2, "x")
        assert snapshot(w.at("x")) == before


# ---- exports ----

def test_an_export_can_be_replaced_and_says_what_is_its_own():
    with World() as w:
        w.tpshard("export", "c", "-o", "e", "-q")
        error_line(w.tpshard("export", "b", "-o", "e", "-q", status=None), 2, "--force")
        w.write("mine", "e", "notes.txt")
        w.tpshard("export", "b", "-o", "e", "-q", "--force")
        w.tpshard("export", "b", "-o", "fresh", "-q")
        assert w.read("e", "notes.txt") == "mine"
        os.unlink(w.at("e", "notes.txt"))
        w.same("e", "fresh")
        w.convert("m", "e", "--tp", "2", "--force")  # a bundle in place of an export
        w.same("e", "b")
        w.tpshard("export", "c", "-o", "e", "-q", "--force")
        open(w.at("e", "config.json"), "a").write(" ")
        w.refused(2, lambda: w.tpshard("export", "c", "-o", "e", "-q", "--force", status=None), "config.json")
        os.unlink(w.at("e", "tpshard-export.json"))
        w.refused(2, lambda: w.tpshard("export", "c", "-o", "e", "-q", "--force", status=None), "manifest")


# ---- modes ----

def test_modes_are_the_umasks_and_the_staging_folder_is_private():
    with World() as w:
        for mask, folder, file in ((0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o000, 0o777, 0o666), (0o027, 0o750, 0o640),
                                   (0o777, 0, 0)):
            if mask == 0o777 and os.geteuid() != 0:
                continue  # nobody else could look at what was made
            old = os.umask(mask)
            try:
                w.convert("m", "k", "--tp", "2", status=-9, fault="kill:60")
                assert stat.S_IMODE(os.stat(w.at("k.partial")).st_mode) == 0o700
                w.convert("m", "k", "--tp", "2")
                w.tpshard("export", "b", "-o", "e", "-q")
                w.tpshard("tokenizer", checkpoint("yarn"), "-o", "t", "-q")
            finally:
                os.umask(old)
            for made in ("k", "e"):
                assert stat.S_IMODE(os.stat(w.at(made)).st_mode) == folder, (oct(mask), made)
                assert {stat.S_IMODE(os.stat(w.at(made, n)).st_mode) for n in w.names(made)} == {file}, (oct(mask), made)
            assert stat.S_IMODE(os.stat(w.at("t")).st_mode) == file
            run(["rm", "-rf", w.at("k"), w.at("e"), w.at("t")])


# ---- links in the model's folder ----

TRAVELLING = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
              "chat_template.jinja", "chat_template.json")


def test_a_travelling_file_that_leads_out_of_the_folder_is_refused_by_name():
    with World() as w:
        shutil.copytree(checkpoint("yarn"), w.at("y"))
        w.tpshard("convert", "y", "-o", "want", "-q", "--no-selftest")
        for name in TRAVELLING:
            path = w.at("y", name)
            kept = os.path.exists(path)
            if kept:
                os.rename(path, w.at("secret"))
            else:
                w.write("{}" if name.endswith("json") else "{{ messages[0].content }}", "secret")
            os.symlink("../secret", path)
            error_line(w.convert("y", "x", status=None), 3, name, "--follow-links")
            error_line(w.tpshard("tokenizer", "y", "-o", "t", "-q", status=None), 3, name)
            assert not os.path.exists(w.at("x")) and not os.path.exists(w.at("x.partial")) and not os.path.exists(w.at("t"))
            w.convert("y", "x", "--follow-links")
            w.tpshard("tokenizer", "y", "-o", "t", "-q", "--follow-links")
            if kept:
                w.same("x", "want")
            w.tpshard("verify", "x", "--against", "y", "-q")
            os.unlink(path)
            os.symlink("../nowhere", path)
            error_line(w.convert("y", "k", status=None), 3, name)
            os.unlink(path)
            os.rename(w.at("secret"), path) if kept else None
            run(["rm", "-rf", w.at("x"), w.at("t")])


def test_a_hub_cache_links_within_and_links_to_weights_are_taken():
    with World() as w:
        shutil.copytree(checkpoint("yarn"), w.at("y"))
        w.tpshard("convert", "y", "-o", "want", "-q", "--no-selftest")
        hub = w.at("hub", "models--a--b")
        os.makedirs(hub + "/blobs")
        os.makedirs(hub + "/snapshots/0123abcd")
        for i, name in enumerate(w.names("y")):
            shutil.copy(w.at("y", name), f"{hub}/blobs/{i:040x}")
            os.symlink(f"../../blobs/{i:040x}", f"{hub}/snapshots/0123abcd/{name}")
        w.tpshard("convert", hub + "/snapshots/0123abcd", "-o", "x", "-q", "--no-selftest")
        w.same("x", "want")
        shutil.rmtree(w.at("x"))
        os.symlink(hub + "/snapshots/0123abcd", w.at("by-link"))
        w.convert("by-link", "x")
        w.same("x", "want")
        shutil.rmtree(w.at("x"))
        os.unlink(f"{hub}/snapshots/0123abcd/config.json")  # a link from a snapshot to anywhere else is none to its blobs
        os.symlink(w.at("y", "config.json"), f"{hub}/snapshots/0123abcd/config.json")
        error_line(w.convert("by-link", "x", status=None), 3, "config.json")
        os.unlink(f"{hub}/snapshots/0123abcd/config.json")
        shutil.copytree(w.at("hub"), w.at("other", "hub"), symlinks=True)  # snapshots and blobs of no hub
        os.rename(w.at("other", "hub", "models--a--b"), w.at("other", "hub", "model"))
        os.symlink("../../blobs/" + "0" * 40, w.at("other", "hub", "model", "snapshots", "0123abcd", "config.json"))
        error_line(w.convert("other/hub/model/snapshots/0123abcd", "x", status=None), 3, "config.json")
        os.mkdir(w.at("y", "additional_chat_templates"))
        os.symlink(w.at("m", "config.json"), w.at("y", "additional_chat_templates", "notes"))  # travels not
        os.rename(w.at("y", "model.safetensors"), w.at("weights"))
        os.symlink("../weights", w.at("y", "model.safetensors"))
        os.rename(w.at("y", "config.json"), w.at("y", "real.json"))
        os.symlink("real.json", w.at("y", "config.json"))
        w.convert("y", "x")
        w.same("x", "want")


# ---- single files ----

def test_a_single_file_is_replaced_in_one_step_and_a_link_stays_one():
    with World() as w:
        yarn, b = checkpoint("yarn"), ("--prompt-ids", "1,2", "--threads", "1", "-q")
        tpshard("tokenizer", yarn, "-o", w.at("want.tpt"), "-q")
        tprun("logits", w.at("b"), "-o", w.at("want.f32"), "--trace", w.at("want.trace"), *b)
        commands = (("want.tpt", lambda out, **kw: tpshard("tokenizer", yarn, "-o", out, "-q", cwd=w.dir, **kw)),
                    ("want.f32", lambda out, **kw: tprun("logits", "b", "-o", out, *b, cwd=w.dir, **kw)),
                    ("want.trace", lambda out, **kw: tprun("generate", "b", "-n", "1", "--temp", "0", "--ids", "--trace", out, *b, cwd=w.dir, **kw)))
        for want, command in commands:
            w.write("the one before", "f")
            os.makedirs(w.at("deep"), exist_ok=True)
            os.symlink("deep/g", w.at("link"))
            for out, made in (("f", "f"), ("link", "deep/g"), ("link", "deep/g"), ("./deep/../new", "new")):
                command(out)
                if want != "want.trace":
                    assert open(w.at(made), "rb").read() == open(w.at(want), "rb").read(), out
                assert os.readlink(w.at("link")) == "deep/g"
            os.mkdir(w.at("folder"))
            s = socket.socket(socket.AF_UNIX)
            s.bind(w.at("socket"))
            for out, status in (("folder", 2), ("folder/", 2), ("f/x", 2), ("socket", 2), ("nowhere/x", 5)):
                w.refused(status, lambda: command(out, status=None))
            os.mkfifo(w.at("fifo"))
            reader = subprocess.Popen(["cat", w.at("fifo")], stdout=subprocess.PIPE)
            command("fifo")
            read = reader.communicate()[0]
            assert want == "want.trace" or read == open(w.at(want), "rb").read()
            assert stat.S_ISFIFO(os.lstat(w.at("fifo")).st_mode)
            command("/dev/null")
            error_line(command("/dev/full", status=None), 5, "/dev/full")
            if want == "want.tpt":
                assert command("-").stdout == open(w.at(want), "rb").read()
            assert not [n for n in w.names() if n.startswith(".")]
            for n in ("f", "new", "deep/g", "link", "socket", "fifo"):
                os.unlink(w.at(n))
            os.rmdir(w.at("folder"))


def test_what_comes_to_a_single_files_name_meanwhile_is_not_replaced():
    with World() as w:
        yarn = checkpoint("yarn")
        for what, make in {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda p: os.symlink("c", p)}.items():
            for fault in ("sync:1", "rename:1"):
                for there in (False, True):
                    if there:
                        w.write("the one before", "f")
                    p = w.stopped(fault, "tokenizer", yarn, "-o", "f")
                    if there:
                        os.unlink(w.at("f"))
                    make(w.at("f"))
                    before = snapshot(w.dir)
                    w.go_on(p, 2, "f")
                    assert snapshot(w.dir) == before, (what, fault, there)
                    run(["rm", "-rf", w.at("f")])


def test_standard_output_by_its_path_is_appended_to_as_the_shell_opened_it():
    with World() as w:
        yarn = checkpoint("yarn")
        tpshard("tokenizer", yarn, "-o", w.at("want"), "-q")
        want = open(w.at("want"), "rb").read()
        for out in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
            w.write("the one before\n", "f")
            with open(w.at("f"), "ab") as f:
                subprocess.run([harness.TPSHARD, "tokenizer", yarn, "-o", out, "-q"], stdout=f, check=True)
            assert open(w.at("f"), "rb").read() == b"the one before\n" + want, out


def test_closed_standard_descriptors_are_nobodys_files():
    with World() as w:
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            run(["sh", "-c", f'exec "$0" convert m -o x --tp 2 --no-selftest --threads 2 {closed}', harness.TPSHARD], cwd=w.dir)
            w.same("x", "b")
            shutil.rmtree(w.at("x"))


def test_two_outputs_of_one_command_have_two_names():
    with World() as w:
        for other in ("x", "./x", "link"):
            os.symlink("x", w.at("link"))
            w.refused(2, lambda: tprun("logits", "b", "-o", "x", "--trace", other, "--prompt-ids", "1", "-q", cwd=w.dir, status=None), "--trace")
            os.unlink(w.at("link"))


def test_a_single_file_that_is_killed_leaves_nothing_to_the_next():
    with World() as w:
        yarn = checkpoint("yarn")
        tpshard("tokenizer", yarn, "-o", w.at("want"), "-q")
        want, calls = open(w.at("want"), "rb").read(), 30
        for prefix in ("", "eisdir:create:1 "):  # with files that have no name, and without
            for k in range(1, calls):
                w.write("the one before", "f")
                done = tpshard("tokenizer", yarn, "-o", w.at("f"), "-q", status=None, env=dict(os.environ, TP_FAULT=f"kill:{k}"))
                assert open(w.at("f"), "rb").read() in (b"the one before", want), k
                if done.returncode == -9:
                    tpshard("tokenizer", yarn, "-o", w.at("f"), "-q")
                assert open(w.at("f"), "rb").read() == want
                assert w.names() == ["b", "c", "f", "m", "n", "want"], w.names()
        os.unlink(w.at("f"))
        w.write("somebody's", ".tpshard-00000000000000000000000000000000")
        tpshard("tokenizer", yarn, "-o", w.at("f"), "-q")
        assert w.read(".tpshard-00000000000000000000000000000000") == "somebody's"


def test_a_saved_conversation_is_a_single_file_too():
    demo = os.path.join(harness.DATA, "demo", "stories")
    with World() as w:
        w.write("the one before", "talk.json")
        os.symlink("talk.json", w.at("link"))
        os.mkdir(w.at("folder"))
        shutil.copytree(demo, w.at("d"))
        w.write("{% for m in messages %}{{ m.content }}{% endfor %}", "d", "chat_template.jinja")
        w.convert("d", "talk")
        done = tprun("chat", w.at("talk"), "-n", "2", "--threads", "1", "-q", cwd=w.dir, status=None,
                     input=b"Once\n/save link\n/save folder\n/save nowhere/x\n/quit\n")
        assert [m["role"] for m in json.load(open(w.at("talk.json")))] == ["user", "assistant"], done
        assert os.readlink(w.at("link")) == "talk.json" and b"folder" in done.stderr and b"nowhere" in done.stderr, done.stderr


# ---- what is written can be read ----

def test_a_manifest_too_large_to_be_read_is_refused_before_the_first_byte():
    with World() as w:
        path = w.at("m", "model.safetensors")
        data = open(path, "rb").read()
        n = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:8 + n])
        end = max(t["data_offsets"][1] for t in header.values())
        for i in range(68000):
            header[f"{i}{'x' * 1000}"] = {"dtype": "BF16", "shape": [0], "data_offsets": [end, end]}
        text = json.dumps(header).encode()
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data[8 + n:])
        w.refused(6, lambda: w.convert("m", "x", status=None), "manifest.json", str(64 << 20))


harness.main(globals())
