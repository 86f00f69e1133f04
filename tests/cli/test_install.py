#!/usr/bin/env python3
"""make install, uninstall and deb; completions; what is said where something is missing."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import BUILD, ROOT, TPRUN, TPSHARD, Skip, run

PROGRAMS = {"tpshard": TPSHARD, "tprun": TPRUN}


def make(*args, status=0, **changes):
    """Nothing is built: the programs are there. Not the make that runs this."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    env.update(changes, SOURCE_DATE_EPOCH="1700000000")
    return run(["make", "-o", "all", f"B={os.path.relpath(BUILD, ROOT)}", *args], status, cwd=ROOT, env=env)


def files_below(folder):
    return {os.path.relpath(os.path.join(base, f), folder) for base, _, names in os.walk(folder) for f in names}


def help_of(program, *command):
    return run([PROGRAMS[program], *command, "--help"]).stdout.decode()


def commands(program):
    return re.findall(r"(?m)^  ([a-z]+) ", help_of(program))


def takes(program, command, option):
    """Is it an option? The message says so; the command line lacks all else."""
    return b"no such option of" not in run([PROGRAMS[program], command, option], None, stdin=subprocess.DEVNULL).stderr


def options_of(program, command):
    """Long options that the help names and the program takes."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", help_of(program, command))) | {"--help"}
    return {o for o in named if takes(program, command, o)}


def test_install_puts_everything_below_the_prefix_and_uninstall_removes_it(folder):
    root = f"{folder}/root"
    place = (f"DESTDIR={root}", "PREFIX=/opt/tp")
    make("install", *place)
    there = files_below(root)
    assert all(f.startswith("opt/tp/") for f in there), there
    for program in PROGRAMS:
        for f in (f"bin/{program}", f"share/man/man1/{program}.1", f"share/bash-completion/completions/{program}",
                  f"share/zsh/site-functions/_{program}", f"share/fish/vendor_completions.d/{program}.fish"):
            assert f"opt/tp/{f}" in there, f
            assert os.stat(f"{root}/opt/tp/{f}").st_mode & 0o777 == (0o755 if f.startswith("bin/") else 0o644), f
        installed = f"{root}/opt/tp/bin/{program}"
        assert run([installed, "--version"]).stdout == run([PROGRAMS[program], "--version"]).stdout
        if shutil.which("readelf"):
            assert b".symtab" not in run(["readelf", "-S", installed]).stdout, f"{program} is not stripped"
            assert b".symtab" in run(["readelf", "-S", PROGRAMS[program]]).stdout, f"{program} of the build is stripped"
    assert {"opt/tp/share/doc/tpshard/README.md", "opt/tp/share/doc/tpshard/LICENSE"} <= there
    with open(f"{root}/opt/tp/bin/other", "w"):
        pass
    make("install", *place)  # over what is there
    assert files_below(root) == there | {"opt/tp/bin/other"}
    make("uninstall", *place)
    assert files_below(root) == {"opt/tp/bin/other"}, files_below(root)
    assert not os.path.exists(f"{root}/opt/tp/share/doc/tpshard")
    make("uninstall", *place)  # of nothing


def test_installed_pages_find_each_other(folder):
    make("install", f"DESTDIR={folder}/root", "PREFIX=/usr")
    doc = f"{folder}/root/usr/share/doc/tpshard"
    for page in ("README.md", *(f"docs/{p}" for p in os.listdir(f"{doc}/docs") if p.endswith(".md"))):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", open(f"{doc}/{page}").read()):
            assert os.path.exists(os.path.join(doc, os.path.dirname(page), link)), (page, link)
    for program in PROGRAMS:
        for page in re.findall(r"docs/\w+\.md", open(f"{folder}/root/usr/share/man/man1/{program}.1").read()):
            assert os.path.exists(f"{doc}/{page}"), page
    with open(f"{doc}/docs/mine", "w"):
        pass
    make("uninstall", f"DESTDIR={folder}/root", "PREFIX=/usr")
    assert files_below(f"{folder}/root") == {"usr/share/doc/tpshard/docs/mine"}


def test_a_place_of_several_words_or_none_is_refused(folder):
    for goal in ("install", "uninstall"):
        for place, words in ((f"PREFIX={folder}/a b", "may not hold spaces"), (f"DESTDIR={folder}/a\tb", "may not hold spaces"),
                             ("PREFIX=opt", "PREFIX must begin with /"), ("PREFIX=", "PREFIX must begin with /")):
            with open(f"{folder}/a", "w"):
                pass
            done = make(goal, place, status=2)
            assert words in done.stderr.decode() and done.stdout == b"", (place, done)
            assert os.path.exists(f"{folder}/a"), place


# ---- completions ----

def completion(shell, program):
    return run([os.path.join(ROOT, "scripts", "make_completion.sh"), shell, PROGRAMS[program]]).stdout.decode()


def bash_completes(folder, program, *words):
    """What bash offers for the last of the words."""
    if not shutil.which("bash"):
        raise Skip("bash is not installed")
    script = f"{folder}/{program}.bash"
    if not os.path.exists(script):
        with open(script, "w") as f:
            f.write(completion("bash", program))
    ask = 'set -u; source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _' + program + '; printf "%s\\n" ${COMPREPLY[@]+"${COMPREPLY[@]}"}'
    os.makedirs(f"{folder}/here", exist_ok=True)
    return run(["bash", "-c", ask, script, program, *words], cwd=f"{folder}/here").stdout.decode().splitlines()


def test_bash_completes_every_command_and_option(folder):
    for program in PROGRAMS:
        assert bash_completes(folder, program, "") == commands(program)
        assert set(bash_completes(folder, program, "--")) == {"--help", "--version"}
        for command in set(commands(program)) - {"help"}:
            offered = set(bash_completes(folder, program, command, "--"))
            assert offered == options_of(program, command), (program, command, offered ^ options_of(program, command))
    assert bash_completes(folder, "tpshard", "con") == ["convert"]
    assert bash_completes(folder, "tprun", "generate", "--re") == ["--repetition-penalty", "--report"]
    assert "-o" in bash_completes(folder, "tpshard", "convert", "-")


def test_bash_completes_values_and_paths(folder):
    assert bash_completes(folder, "tpshard", "convert", "model", "--quant", "") == ["none", "int8", "fp8", "int4"]
    assert bash_completes(folder, "tpshard", "convert", "--quant", "=", "int") == ["int8", "int4"]
    assert bash_completes(folder, "tpshard", "convert", "--quant", "=") == ["none", "int8", "fp8", "int4"]
    assert bash_completes(folder, "tprun", "generate", "b", "--device", "c") == ["cpu", "cuda"]
    assert bash_completes(folder, "tprun", "chat", "b", "--isa", "avx") == ["avx2", "avx512", "avx512bf16"]
    assert not any(bash_completes(folder, "tpshard", "convert", "--tp", ""))
    for name in ("bundle one", "bundle-two", "other"):
        os.makedirs(f"{folder}/here/{name}")
    assert sorted(bash_completes(folder, "tprun", "generate", "bun")) == ["bundle one", "bundle-two"]
    assert sorted(bash_completes(folder, "tpshard", "convert", "m", "-o", "")) == ["bundle one", "bundle-two", "other"]
    assert bash_completes(folder, "tpshard", "verify", "b", "--against", "oth") == ["other"]


def test_fish_completes_every_command_and_option(folder):
    if not shutil.which("fish"):
        raise Skip("fish is not installed")
    env = dict(os.environ, HOME=folder, XDG_CONFIG_HOME=folder, XDG_DATA_HOME=folder)
    for program in PROGRAMS:
        script = f"{folder}/{program}.fish"
        with open(script, "w") as f:
            f.write(completion("fish", program))

        def offered(line):
            done = run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], env=env)
            return {l.split("\t")[0] for l in done.stdout.decode().splitlines()}

        assert offered(program + " ") == set(commands(program))
        for command in set(commands(program)) - {"help"}:
            found = offered(f"{program} {command} --")
            assert found == options_of(program, command), (program, command, found ^ options_of(program, command))
    assert offered("tprun generate b --device ") == {"cpu", "cuda"}


def test_zsh_reads_its_completions(folder):
    texts = {program: completion("zsh", program) for program in PROGRAMS}
    for program, text in texts.items():
        assert text.startswith(f"#compdef {program}\n")
        parts = re.split(r"(?m)^  ([a-z]+)\) _arguments", text)
        for command, specs in zip(parts[1::2], parts[2::2]):
            named = set(re.findall(r"'\*(--[a-z0-9-]+)", specs))
            assert named == options_of(program, command), (program, command, named ^ options_of(program, command))
        assert set(parts[1::2]) == set(commands(program)) - {"help"}
    if not shutil.which("zsh"):
        raise Skip("zsh is not installed")
    for program, text in texts.items():
        with open(f"{folder}/_{program}", "w") as f:
            f.write(text)
        run(["zsh", "-f", "-n", f"{folder}/_{program}"])
        # as a shell finds it, with _arguments in front of it: that it is called as it may be
        ask = f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; (( $+_comps[{program}] )) && autoload +X _{program}"
        run(["zsh", "-f", "-c", ask])


# ---- the Debian package ----

def test_the_debian_package_holds_what_it_should_and_runs(folder):
    for tool in ("dpkg-deb", "dpkg-shlibdeps"):
        if not shutil.which(tool):
            raise Skip(f"{tool} is not installed")
    if os.environ.get("CONFIG", "release") in ("asan", "tsan"):
        raise Skip("packages are made of the release build")
    packages = []
    for n in ("one", "two"):
        os.makedirs(f"{folder}/{n}")
        make("build-deb", f"DEB_DIR={folder}/{n}")
        (name,) = os.listdir(f"{folder}/{n}")
        packages.append(open(f"{folder}/{n}/{name}", "rb").read())
    assert packages[0] == packages[1], "two packages of the same programs differ"
    deb = f"{folder}/two/{name}"
    control = dict(l.split(": ", 1) for l in run(["dpkg-deb", "-f", deb]).stdout.decode().splitlines() if not l.startswith(" "))
    version = run([TPRUN, "--version"]).stdout.decode().split()[1]
    assert (control["Package"], control["Version"]) == ("tpshard", version + "-1")
    assert name == f"tpshard_{version}-1_{control['Architecture']}.deb"
    depends = {d.split()[0] for d in control["Depends"].split(", ")}
    assert {"libc6", "libzstd1", "libxxhash0", "libhwloc15"} <= depends and len(depends) == 8, depends
    lines = [l.split(None, 5) for l in run(["dpkg-deb", "-c", deb], env=dict(os.environ, TZ="UTC")).stdout.decode().splitlines()]
    assert {l[1] for l in lines} == {"root/root"} and {l[3] for l in lines} == {"2023-11-14"}
    assert {l[0] for l in lines} == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"}
    there = {l[5][2:] for l in lines if not l[5].endswith("/")}
    wanted = {"usr/share/doc/tpshard/" + f for f in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "copyright", "changelog.gz", "changelog.Debian.gz")}
    wanted |= {f"usr/share/doc/tpshard/docs/{f}" for f in os.listdir(f"{ROOT}/docs") if f.endswith((".md", ".svg"))}
    for p in PROGRAMS:
        wanted |= {f"usr/bin/{p}", f"usr/share/man/man1/{p}.1.gz", f"usr/share/bash-completion/completions/{p}",
                   f"usr/share/zsh/vendor-completions/_{p}", f"usr/share/fish/vendor_completions.d/{p}.fish"}
    assert there == wanted, there ^ wanted
    run(["dpkg-deb", "-x", deb, f"{folder}/x"])
    run(["dpkg-deb", "-e", deb, f"{folder}/x/DEBIAN"])
    run(["md5sum", "--quiet", "-c", "DEBIAN/md5sums"], cwd=f"{folder}/x")
    for p, path in PROGRAMS.items():
        assert run([f"{folder}/x/usr/bin/{p}", "--version"]).stdout == run([path, "--version"]).stdout
    run([f"{folder}/x/usr/bin/tpshard", "convert", harness.DEMO, "-o", f"{folder}/b", "-q"])  # its tprun beside it
    if shutil.which("lintian"):
        done = subprocess.run(["lintian", "--fail-on", "error", deb], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()
    else:
        print("SKIP lintian: not installed")


# ---- what is missing ----

def tools(folder, *names):
    """A folder for PATH that has these programs alone."""
    os.makedirs(folder)
    for n in ("sh", "sed", "paste", "mktemp", "rm", "id", "env", *names):
        os.symlink(shutil.which(n), os.path.join(folder, n))
    return folder


def install_deps(path, kind, **env):
    return subprocess.run([os.path.join(ROOT, "scripts", "install_deps.sh"), kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, PATH=path, **env))


def test_what_is_missing_is_named_where_nothing_can_install_it(folder):
    bare = tools(f"{folder}/bare")
    done = install_deps(bare, "programs", CC="gcc")
    assert done.returncode == 1 and done.stderr == b"install_deps: missing here: a C compiler (gcc); there is no apt-get to install it with\n", done.stderr
    # a compiler that knows all but one library
    compiler = f"{folder}/cc"
    with open(compiler, "w") as f:
        f.write(f"#!/bin/sh\ncase \"$*\" in *-ljansson*) exit 1 ;; esac\nPATH={os.environ['PATH']} exec {os.environ.get('CC', 'gcc')} \"$@\"\n")
    os.chmod(compiler, 0o755)
    done = install_deps(bare, "programs", CC=compiler)
    assert done.returncode == 1 and b"missing here: jansson; there is no apt-get" in done.stderr, done.stderr


def test_with_everything_there_nothing_is_asked_of_packages(folder):
    compiler = f"{folder}/cc"
    with open(compiler, "w") as f:
        f.write(f"#!/bin/sh\nPATH={os.environ['PATH']} exec {os.environ.get('CC', 'gcc')} \"$@\"\n")
    os.chmod(compiler, 0o755)
    done = install_deps(tools(f"{folder}/bare"), "programs", CC=compiler)  # neither dpkg nor apt-get
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done.stderr


def test_clang_builds_both_programs_without_a_warning(folder):
    if not shutil.which("clang") or os.environ.get("CONFIG", "release") != "release":
        raise Skip("clang is not installed, or this is another build")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CI")}
    done = run(["make", "-j2", "CC=clang", "B=" + folder, "NVCC=", "WERROR="], cwd=ROOT, env=env)
    assert b"warning" not in done.stderr, done.stderr.decode()
    assert b"clang" in run([folder + "/tprun", "--version"]).stdout


def test_another_machine_than_x86_64_is_refused_by_name(folder):
    with open(f"{folder}/cc", "w") as f:
        f.write("#!/bin/sh\necho aarch64-linux-gnu\n")
    os.chmod(f"{folder}/cc", 0o755)
    done = make("all", f"CC={folder}/cc", status=2)
    assert f"x86-64 is required, {folder}/cc makes programs for aarch64-linux-gnu" in done.stderr.decode(), done.stderr
    make("help", f"CC={folder}/cc")


harness.main(globals())
