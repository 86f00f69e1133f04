#!/usr/bin/env python3
"""template_diff.py [--seed N] [--count N]: random templates and variables, rendered by tprun and by the reference;
prints those that differ. Needs transformers; build/ must be made.
"""
import argparse
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
import templates
import template_reference

NAMES = ["a", "b", "c", "m", "ns", "loop", "x", "y", "f", "messages", "tools"]
ATTRS = ["role", "content", "a", "x", "items", "index", "first", "last", "length", "upper", "keys", "append", "_p", "name"]
FILTERS = ["upper", "lower", "trim", "length", "first", "last", "list", "join", "join(',')", "sort", "reverse", "tojson", "tojson(indent=2)", "default('d')", "d(1, true)", "string", "int", "float", "abs", "capitalize", "title", "replace('a', 'b')", "map('upper')", "map(attribute='role')", "select", "reject", "selectattr('role')", "selectattr('role', 'equalto', 'user')", "rejectattr('x')", "unique", "sum", "max", "min", "items", "dictsort", "dictsort(by='value')", "count", "e", "safe", "indent(2)", "round", "round(1)", "tojson(sort_keys=true)", "join(', ', attribute='role')", "sort(attribute='role')", "map('default', 5)"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "odd", "even", "true", "false", "integer", "float", "boolean", "callable", "eq 1", "in a", "lt 2", "divisibleby 2"]
METHODS = ["upper()", "lower()", "strip()", "split()", "split(',')", "items()", "keys()", "values()", "get('a')", "get('role', 1)", "startswith('a')", "endswith('b')", "replace('a', 'c')", "title()", "find('a')", "count('a')", "join(['a', 'b'])", "rstrip('\\n')", "lstrip()", "append(1)", "format(1, a=2)", "pop()", "splitlines()", "rsplit('a', 1)", "foo()"]
TEXTS = ["x", " ", "\n", "  \n", "\n\n", "a b", "\t", "<|im_start|>", "é", "{", "}", "%", "#"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.calm = self.r.choice((0.3, 0.9, 1.0, 1.0))
        self.scope = list(NAMES)

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self):
        return self.pick("0", "1", "2", "-1", "3.5", "1e2", "'a'", "'ab\\n'", "''", "'é'", "true", "false", "none", "[]", "[1, 2, 3]", "{}", "{'a': 1}", "(1, 2)", "'A,b'", "range(3)", "['b', 'a']", "[[1, 2], [3, 4]]", "[{'role': 'user', 'content': 'hi'}]")

    def tame(self, kind, depth):
        """An expression of a type, so that most templates render."""
        r, t = self.r, self.tame
        if kind == "bool":
            return self.pick("true", "false", f"{t('int', depth - 1)} {self.pick('<', '==', '>=', '!=')} {t('int', depth - 1)}", f"{t('str', depth - 1)} in {t('str', depth - 1)}", f"not ({t('bool', depth - 1)})", f"{r.choice(self.scope)} is {self.pick('defined', 'none', 'string', 'mapping', 'iterable', 'number', 'true')}", f"({t('bool', depth - 1)}) {self.pick('and', 'or')} ({t('bool', depth - 1)})", f"{t('int', depth - 1)} in {t('list', depth - 1)}") if depth > 0 else self.pick("true", "false", "loop is defined", "loop.first", "loop.last")
        if kind == "int":
            return self.pick("1", "7", f"({t('int', depth - 1)} {self.pick('+', '-', '*')} {t('int', depth - 1)})", f"{t('str', depth - 1)}|length", f"{t('list', depth - 1)}|length", f"({t('int', depth - 1)} // 2)", f"({t('int', depth - 1)} % 3)", f"({t('int', depth - 1)} if {t('bool', depth - 1)} else {t('int', depth - 1)})", f"{t('str', depth - 1)}.find('a')", f"{t('ints', depth - 1)}|sum", "ns.x", "messages|length") if depth > 0 else self.pick("0", "1", "2", "3", "-2", "loop.index|d(4)")
        if kind == "ints":
            return self.pick("[1, 2, 3]", "[]", "range(4)", f"[{t('int', depth - 1)}, {t('int', depth - 1)}]") if depth > 0 else "[3, 1]"
        if kind == "list":
            return self.pick(t("ints", depth - 1), f"{t('str', depth - 1)}.split()", f"({t('list', depth - 1)}|list)[{self.pick('1:', ':1', '::-1', ':-1')}]", f"({t('list', depth - 1)}|list + {t('list', depth - 1)}|list)", "messages", "messages|map(attribute='role')|list", "messages|selectattr('role', 'equalto', 'user')|list", "messages|rejectattr('x', 'defined')|list", f"{t('ints', depth - 1)}|{self.pick('sort', 'reverse|list', 'unique|list', 'select(' + chr(39) + 'odd' + chr(39) + ')|list', 'map(' + chr(39) + 'string' + chr(39) + ')|list')}", f"{t('str', depth - 1)}|list") if depth > 0 else self.pick("[]", "['b', 'a']", "(1, 2)", "messages")
        return self.pick("'a b'", f"{t('str', depth - 1)}.{self.pick('upper()', 'strip()', 'title()', 'replace(' + chr(39) + 'a' + chr(39) + ', ' + chr(39) + 'xy' + chr(39) + ')', 'lstrip()', 'capitalize()')}", f"{t('str', depth - 1)}|{self.pick('upper', 'trim', 'title', 'e', 'indent(2)', 'reverse', 'capitalize', 'tojson', 'safe')}", f"({t('str', depth - 1)} {self.pick('~', '+')} {t('str', depth - 1)})", f"({t('str', depth - 1)} ~ {t('list', depth - 1)})", f"({t('str', depth - 1)}[{self.pick('1:', ':2', '::-1', '-3:')}])", f"({t('str', depth - 1)} * 2)", f"{t('list', depth - 1)}|tojson", f"{t('list', depth - 1)}|join('-')", f"{t('int', depth - 1)}|string", f"({t('str', depth - 1)} if {t('bool', depth - 1)} else {t('str', depth - 1)})", f"{r.choice(self.scope)}|default('d')|string", "messages[0].role|d('r')|string", "f(1)" if r.random() < 0.2 else "'f'") if depth > 0 else self.pick("'a'", "''", "'Ab,c'", "'é<'", "' x\\n'")

    def expr(self, depth):
        r = self.r
        if r.random() < self.calm:
            return self.tame(self.pick("str", "str", "int", "bool", "list"), depth)
        if depth <= 0:
            return self.literal() if r.random() < 0.5 else r.choice(self.scope)
        e = lambda: self.expr(depth - 1)
        p = lambda: f"({e()})" if r.random() < 0.5 else e()
        k = r.randrange(19)
        if k == 0:
            return f"{p()} {self.pick('+', '-', '*', '/', '//', '%', '**', '~')} {p()}"
        if k == 1:
            return f"{p()} {self.pick('==', '!=', '<', '<=', '>', '>=', 'in', 'not in')} {p()}"
        if k == 2:
            return f"{p()} {self.pick('and', 'or')} {p()}"
        if k == 3:
            return self.pick("not ", "-", "+") + p()
        if k in (4, 5):
            return f"({e()})|{r.choice(FILTERS)}"
        if k == 6:
            return f"{p()} is {self.pick('', 'not ')}{r.choice(TESTS)}"
        if k == 7:
            return f"({e()}).{r.choice(ATTRS)}"
        if k == 8:
            return f"({e()})[{e()}]"
        if k == 9:
            return f"({e()})[{self.pick('', e())}:{self.pick('', '1', '-1', e())}{self.pick('', ':', ':-1', ':2')}]"
        if k == 10:
            return f"({e()}).{r.choice(METHODS)}"
        if k == 11:
            return f"{p()} if {e()} else {p()}" if r.random() < 0.7 else f"({e()} if {e()})"
        if k == 12:
            return "[" + ", ".join(e() for _ in range(r.randrange(3))) + "]"
        if k == 13:
            return "{" + ", ".join(f"{self.pick(chr(39) + 'a' + chr(39), '1', self.literal())}: {e()}" for _ in range(r.randrange(3))) + "}"
        if k == 14:
            return f"{self.pick('f', 'range', 'namespace', 'dict', 'm', 'x', 'caller')}({self.args(depth - 1)})"
        if k == 15:
            return self.pick("loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.previtem", "loop.nextitem", "ns.x", "messages[0].role", "messages[0]['content']", "messages|length")
        if k == 16:
            return f"{p()} {self.pick('<', '==')} {p()} {self.pick('<', '==', 'in')} {p()}"
        return self.literal() if k == 17 else r.choice(self.scope)

    def args(self, depth):
        parts = [self.expr(depth) for _ in range(self.r.randrange(3))]
        if self.r.random() < 0.3:
            parts.append(f"{self.pick('a', 'b', 'x')}={self.expr(depth)}")
        if self.r.random() < 0.1:
            parts.append("*" + self.literal())
        return ", ".join(parts)

    def tag(self, text):
        b, e = self.pick("{%", "{%", "{%", "{%-", "{%+"), self.pick("%}", "%}", "%}", "-%}", "+%}")
        return f"{b} {text} {e}"

    def body(self, depth, loop=False):
        return "".join(self.statement(depth, loop) for _ in range(self.r.randrange(1, 4)))

    def target(self):
        return self.pick("x", "y", "a", "x, y", "a, (b, c)", "m")

    def statement(self, depth, loop):
        r, t = self.r, self.tag
        k = r.randrange(17) if depth > 0 else r.randrange(5)
        inner = lambda in_loop=loop: self.body(depth - 1, in_loop)
        if k in (0, 1):
            return "".join(r.choice(TEXTS) for _ in range(r.randrange(1, 4)))
        if k in (2, 3):
            return self.pick("{{ ", "{{- ", "{{") + self.expr(2) + self.pick(" }}", " -}}", "}}")
        if k == 4:
            return self.pick("{# c #}", "{#- c -#}", "{# c #}\n", t("raw") + "{{ x }}" + t("endraw")) if r.random() < 0.3 else t(f"set {self.pick('x', 'y', 'a', 'b', *(['ns.x', 'x, y', 'm'] if r.random() > self.calm else []))} = {self.expr(2)}")
        if k in (5, 6):
            text = t(f"for {self.target() if r.random() < 1 - self.calm else self.pick('x', 'y', 'a')} in {self.expr(1) if r.random() > self.calm else self.tame('list', 1)}{self.pick('', '', ' if ' + self.expr(1))}") + inner(True)
            return text + t("endfor")
        if k in (7, 8):
            text = t(f"if {self.expr(2)}") + inner()
            if r.random() < 0.3:
                text += t(f"elif {self.expr(1)}") + inner()
            return text + (t("else") + inner() if r.random() < 0.4 else "") + t("endif")
        if k == 9:
            return t(f"macro {self.pick('f', 'm')}({self.pick('', 'a', 'a, b', 'a, b=' + self.expr(1), 'x=1')})") + inner(False) + t("endmacro")
        if k == 10:
            return t(f"call{self.pick('', '(x)', '(x, y=2)')} {self.pick('f', 'm')}({self.args(1)})") + inner(False) + t("endcall")
        if k == 11:
            return t(f"filter {r.choice(FILTERS) if r.random() > self.calm else self.pick('upper', 'trim', 'e', 'title')}") + inner() + t("endfilter")
        if k == 12:
            return t(f"set {self.pick('x', 'y', 'ns.x')}{self.pick('', ' | upper', ' | trim')}") + inner() + t("endset")
        if k == 13:
            return t(f"with {self.pick('', 'a=' + self.expr(1), 'x=1, y=' + self.expr(1))}") + inner() + t("endwith")
        if k == 14 and loop:
            return t(f"if {self.expr(1)}") + t(self.pick("break", "continue")) + t("endif")
        if k == 15:
            return t("generation") + inner(False) + t("endgeneration")
        return t("set ns = namespace(x=1)")

    def template(self):
        text = self.pick("", "{% set ns = namespace(x=0) %}") + self.pick("", "{% macro f(a, b=1) %}{{ a }}{{ caller() if caller }}{% endmacro %}") + self.body(3)
        if self.r.random() < 0.05:  # broken
            at = self.r.randrange(len(text) + 1)
            text = text[:at] + self.pick("", "{%", "}}", "(", "'", ".") + text[at + self.r.randrange(3):]
        return text

    def variables(self):
        r = self.r
        value = lambda d: r.choice([0, 1, 2, -3, 2.5, "", "a", "Ab c", "é\n", True, False, None, [], {}, [1, 2, 3], ["b", "a"], {"a": 1, "x": [1]}, [[1, 2]], {"role": "user", "items": 1}])
        v = {n: value(1) for n in ("a", "b", "c", "x", "y", "tools") if r.random() < 0.7}
        v["messages"] = [{"role": r.choice(["user", "assistant", "system"]), "content": value(1)} for _ in range(r.randrange(4))]
        return v


def comparable(want):
    """Not what depends on addresses, and not what tprun refuses by design."""
    text = str(want)
    if want.get("compile") and "unhashable" in text:  # constants folded where they are never reached
        return False
    return " at 0x" not in text and "RecursionError" not in text and "<class " not in text and "MemoryError" not in text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    differ = both = outputs = errors = refused = 0

    def one(seed):
        maker = Maker(seed)
        template, variables = maker.template(), [maker.variables() for _ in range(2)]
        return seed, template, variables, templates.render(template, variables)

    with ThreadPoolExecutor(3) as team:
        for seed, template, variables, got in team.map(one, range(options.seed, options.seed + options.count)):
            for v, g in zip(variables, got):
                want = template_reference.render(template, v)
                if not comparable(want):
                    continue
                outputs += "output" in want
                errors += "error" in want
                if "error" in g and ("supported" in g["error"] or "64 bits" in g["error"] or "more than" in g["error"] or "nested deeper" in g["error"]):
                    refused += 1
                    continue
                why = templates.difference(want, g)
                if why:
                    differ += 1
                    both += "error" in want and "error" in g
                    print(f"{seed} {template!r} {v}\n    {why}")
    print(f"{outputs} outputs, {errors} errors, {refused} refused, {differ} differ, {both} of them errors both")
    return differ != 0


if __name__ == "__main__":
    sys.exit(main())
