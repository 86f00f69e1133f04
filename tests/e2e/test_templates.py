"""Chat templates against what the reference makes of them: our own small templates, and, where SHARED is, real ones."""
import collections
import glob
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
import templates
from harness import DATA, SHARE, SHARED, Skip, tprun

REAL = os.path.join(SHARED, "data", "chat-templates")


def read_json(*path):
    path = os.path.join(REAL, *path)
    if not os.path.exists(path):
        raise Skip(f"{path} is not here")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def read_text(*path):
    with open(os.path.join(REAL, *path), encoding="utf-8", newline="") as f:
        return f.read()


def compare(cases, now=templates.NOW, unsupported=()):
    """cases: (name, template, variables, wanted). Prints a line for each that differs. unsupported: names of those that
    must be refused.
    """
    grouped = collections.OrderedDict()
    for name, template, variables, wanted in cases:
        grouped.setdefault(template, []).append((name, variables, wanted))

    def one(item):
        template, rows = item
        got = templates.render(template, [v for _, v, _ in rows], now=now)
        return [(name, templates.difference(wanted, g)) for (name, _, wanted), g in zip(rows, got)]

    with ThreadPoolExecutor(2) as team:
        found = [row for rows in team.map(one, grouped.items()) for row in rows]
    refused = [name for name, why in found if why and "is not supported" in why]
    differ = [(name, why) for name, why in found if why and name not in unsupported]
    for name, why in differ:
        print(f"  {name}: {why}")
    for name in refused:
        print(f"  refused: {name}")
    print(f"  {len(found) - len(differ) - len(refused)} of {len(found)} as the reference, {len(refused)} refused as not supported")
    assert found, "no cases"
    assert not differ, f"{len(differ)} of {len(found)} differ, first {differ[0][0]}"
    assert refused == list(unsupported), f"{refused} refused, {unsupported} expected"


def test_small_templates_of_every_kind():
    cases = []
    for path in sorted(glob.glob(os.path.join(DATA, "templates", "*.jsonl"))):
        with open(path, encoding="utf-8") as f:
            first, *rows = [json.loads(line) for line in f]
        kind = os.path.basename(path)[:-len(".jsonl")]
        cases += [(f"{kind} {row['template']!r}", row["template"], first["variables"], row) for row in rows]
    compare(cases[::SHARE])


def test_goldens_made_with_todays_reference():
    contexts = read_json("goldens-made-here", "contexts.json")
    rows = [json.loads(line) for line in read_text("goldens-made-here", "rendered.jsonl").splitlines()]
    compare([(f"{r['template']} {r['context']}", read_text("llama.cpp", r["template"]),
              {"tools": None, "documents": None, **contexts[r["context"]]}, r) for r in rows[::SHARE]])


def test_goldens_of_2024():
    read_json("goldens-2024", "contexts", "simple.json")
    cases = []
    for line in read_text("goldens-2024", "STATUS.tsv").splitlines()[1:]:
        template, context, status = line.split("\t")
        if status == "direct":
            cases.append((f"{template} {context}", read_text("goldens-2024", "templates", template + ".jinja"),
                          read_json("goldens-2024", "contexts", context + ".json"),
                          {"output": read_text("goldens-2024", "goldens", f"{template}-{context}.txt")}))
    compare(cases)


def main_cases(tree, name=""):
    """Every {"chat_template", "data", "target"} below a node of e2e.json."""
    if isinstance(tree, dict) and "chat_template" in tree and "target" in tree:
        yield name, tree["chat_template"], tree["data"], {"output": tree["target"]}
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from main_cases(value, f"{name} {key}".strip())


def test_published_renderings():
    # One target is not what jinja2 gives.
    compare([c for c in main_cases(read_json("huggingface.js", "e2e.json")) if "Hammer2.1" not in c[0]],
            now="2025-07-10 12:00:00")


def test_published_syntax_cases():
    cases = []
    for case in read_json("huggingface.js", "syntax.json"):
        if case["context"] is None:
            print(f"  left out: {case['name']}: its variables are functions, without a reference")
        elif '"\\u0000' in json.dumps(case["context"]):
            print(f"  left out: {case['name']}: a NUL in a name is not read")
        else:
            wanted = case["expected_jinja2"]
            cases.append((case["name"], case["template"], case["context"],
                          {"output": wanted} if isinstance(wanted, str) else {"error": case["jinja2_error"]}))
    compare(cases, unsupported=["FOR_LOOP_DEFAULT", "IS_OPERATOR_5"])


def test_a_template_that_does_not_compile_is_refused_with_its_place():
    with harness.Folder() as d:
        for text, place, what in (("a\n {% if x %}", "2:12", "Unexpected end of template."), ("é{{ 1 ! }}", "1:7", "unexpected char '!' at 6"),
                                  ("{% include 'x' %}", "1:4", "the tag 'include' is not supported"), ("\n{% extends x %}", "2:4", "extends"),
                                  ("{% import 'x' as y %}", "1:4", "import"), ("{% from 'x' import y %}", "1:4", "from"), ("{{ x|nope }}", "1:6", "No filter named 'nope'."),
                                  ("{% block a %}{% endblock %}", "1:4", "the tag 'block' is not supported"), ("{% autoescape true %}", "1:4", "the tag 'autoescape' is not supported"),
                                  ("{% for x in y recursive %}{% endfor %}", "1:15", "a recursive loop is not supported"), ("{% for x in y %}\n{% else %}{% endfor %}", "2:4", "'else' of a loop is not supported"),
                                  ("{% if x %}{{ x | center(3) }}{% endif %}", "1:18", "the filter 'center' is not supported"), ("{{ x is sameas y }}", "1:6", "the test 'sameas' is not supported"),
                                  ("\n{{ x.zfill(3) }}", "2:11", "the method 'zfill' is not supported"), ("{{ '%d' % x }}", "1:9", "formatting with % and a string is not supported"),
                                  ("{{ f(**x) }}", "1:6", "an argument with '**' is not supported"), ("{{ x[1, 2] }}", "1:7", "a subscript of none or several is not supported"),
                                  ("{{ 0x1F }}", "1:4", "an integer of another base is not supported"), ("{{ é }}", "1:4", "a name beyond ASCII is not supported"),
                                  ("{% macro f() %}{{ varargs }}{% endmacro %}", "1:4", "'varargs' in a macro is not supported"), ("{% macro f(caller) %}{% endmacro %}", "1:4", "a parameter named 'caller' is not supported")):
            with open(d + "/t.jinja", "w") as f:
                f.write(text)
            harness.error_line(tprun("render", "--template", d + "/t.jinja", status=None, input=b"{}"), 3, f"t.jinja:{place}: ", what)


def test_what_is_not_supported_is_refused_when_it_is_reached():
    for text, what in (("{{ cycler(1) }}", "cycler"), ("{{ joiner() }}", "joiner"), ("{{ lipsum() }}", "lipsum"), ("{{ dict([[1, 2]]) }}", "a dict or namespace of what is no dict"),
                       ("{{ s % 1 }}", "formatting with % and a string"), ("{{ '{:>3}'.format(1) }}", "more than a name in a field of str.format"), ("{{ s['zfill'](3) }}", "str.zfill"),
                       ("{{ s.index('a') }}", "str.index"), ("{{ s.find('a', 1) }}", "a bound of str.find"), ("{{ s.endswith('a', 1) }}", "a bound of str.endswith"), ("{{ xs.index(1) }}", "list.index"),
                       ("{{ xs.copy() }}", "list.copy"), ("{{ s.rsplit() }}", "str.rsplit without a separator"), ("{{ {}.keys() == {1: 2}.keys() }}", "a comparison of views of dicts"), ("{{ (-1) ** 0.5 }}", "a complex number"), ("{{ n.real }}", "int.real"), ("{{ range(3).stop }}", "range.stop"), ("{{ '7'|int(0, 16) }}", "the base of the filter int"),
                       ("{{ 7.5|round(-1) }}", "a negative precision of the filter round"), ("{{ xs|map('center', 3)|list }}", "the filter 'center'"), ("{{ xs|select('sameas', 3)|list }}", "the test 'sameas'"),
                       ("{% for x in xs %}{{ loop.cycle(1, 2) }}{% endfor %}", "loop.cycle"), ("{% for x in xs %}{{ loop([1]) }}{% endfor %}", "a recursive loop"),
                       ("{% macro f() %}{% endmacro %}{{ f.name }}", "the attribute 'name' of a macro")):
        got = templates.render(text, [{"s": "a", "n": 1, "xs": [1]}])[0]
        assert got == {"error": what + " is not supported"}, (text, got)


def test_bad_lines_and_bad_calls_are_refused():
    with harness.Folder() as d:
        with open(d + "/t.jinja", "w") as f:
            f.write("{{ x }}")
        for lines, number in ((b'{"x": 1}\n{', 2), (b"[]", 1), (b"\n\n{}\n1\n", 4), (b'{"x": "\xff"}', 1), (b'{"x": 1, "x": 2}', 1), (b"[" * 100, 1)):
            error = harness.error_line(tprun("render", "--template", d + "/t.jinja", status=None, input=lines), 3)
            assert re.search(rf": line {number}(:| column \d+:)", error), error
        harness.error_line(tprun("render", "--template", d + "/none", status=None, input=b""), 5, "none")
        harness.error_line(tprun("render", "--template", d + "/t.jinja", "--now", "today", status=None, input=b""), 2, "--now")
        harness.error_line(tprun("render", status=None, input=b""), 2, "--template")
        with open(d + "/t.jinja", "w") as f:
            f.write("x" * (1 << 20) + "y")
        harness.error_line(tprun("render", "--template", d + "/t.jinja", status=None, input=b""), 6, "1048576")


def test_no_template_exhausts_time_or_memory():
    import resource
    import time
    slowest = 0
    for text, words in (("{{ range(10**12) }}", "OverflowError: Range too big"), ("{% for a in range(10**4) %}{% for b in range(10**4) %}{% endfor %}{% endfor %}", "steps"),
                        ("{{ 'a' * 10**9 }}", ""), ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested"), ("{% macro f() %}{{ f() ~ f() }}{% endmacro %}{{ f() }}", "nested"),
                        ("{{ (range(10**5)|join) * 10**5 }}", ""), ("{{ range(10**5)|map('string')|map('indent', 10**5, true)|join }}", ""),
                        ("{% set ns = namespace(x='ab') %}{% for i in range(10**5) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", ""),
                        ("{% set ns = namespace(x=[1]) %}{% for i in range(10**5) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", ""),
                        ("{% set ns = namespace(x=[1]) %}{% for i in range(10**5) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}", ""),
                        ("{% set ns = namespace(x={}) %}{% for i in range(10**5) %}{% set ns.x = dict(ns.x, **{i ~ '': 1}) %}{% endfor %}", ""),
                        ("{% macro f(xs) %}{% for i in xs %}{{ f([i]) }}{% endfor %}{% endmacro %}{{ f(range(10**5)) }}", "nested"), ("{{ 2 ** (2 ** 20) }}", ""), ("{{ 10 ** 1000 }}", ""),
                        ("{{ 'x'|indent(10**9, true) }}", ""), ("{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}", ""),
                        ("{{ ('a' * 10**6).split('a')|join('x' * 10**4) }}", ""), ("{{ ('a ' * 10**5)|indent(10**5) }}", None), ("{{ ('a\\n' * 10**5)|indent(10**5) }}", ""), ("{{ range(10**5)|list|tojson(indent=10**6) }}", ""),
                        ("{% for i in range(10**5) %}{{ ('a' * 10**5) in ('a' * 10**5 ~ 'b') }}{% endfor %}", ""), ("{{ ('a' * 10**5 ~ 'b') in ('a' * 10**6) }}{{ ('a' * 10**6).find('a' * 10**5 ~ 'b') }}", None),
                        ("{% for i in range(10**5) %}" + "x" * 1000 + "{% endfor %}", "output"), ("{% set x %}{% for i in range(10**5) %}" + "x" * 1000 + "{% endfor %}{% endset %}", "output"),
                        ("{{ x.y }}" * 100000, None), ("{{ " + "[" * 1000 + "]" * 1000 + " }}", "nested"), ("{{ " + "-" * 100000 + "1 }}", "nested"), ("{{ " + "not " * 100000 + "1 }}", "nested"), ("{{ " + "1 + " * 100000 + "1 }}", "levels"),
                        ("{{ a" + ".a" * 100000 + " }}", "levels"), ("{% if x %}" * 50000, "nested"), ("{{ a" + "|e" * 100000 + " }}", "levels"), ("{{ " + "a if b else " * 50000 + "c }}", "nested"),
                        ("{% set a = 1 %}{% if a %}{% set b = 1 %}{% endif %}" * 15000, None), ("".join(f"{{% set a{i} = {i} %}}" for i in range(40000)), None), ("{{ [" + "1," * 400000 + "] }}", None),
                        ("{{ 1 }}" * 140000, None)):
        begin = time.time()
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        got = templates.render(text, [{"x": {}}])[0]
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
        slowest = max(slowest, used)
        assert used < 30 * harness.SHARE, (text[:60], used, time.time() - begin)  # without limits: never
        if words is not None:
            assert words in got.get("error", ""), (text[:60], str(got)[:200])
            assert "error" in got, (text[:60], str(got)[:200])
    print(f"  the slowest took {slowest:.2f} s of CPU")


if __name__ == "__main__":
    harness.main(globals())
