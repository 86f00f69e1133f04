"""What the tests of templates share: rendering with tprun, and saying where two results differ."""
import json
import os
import re
import subprocess
import tempfile

from harness import TPRUN

NOW = "2024-07-26 12:00:00"


def render(template, variables, *args, now=NOW):
    """Results for each object of variables, as scripts/template_reference.py gives them."""
    with tempfile.NamedTemporaryFile("wb", suffix=".jinja", delete=False) as f:
        f.write(template.encode())
    try:
        done = subprocess.run([TPRUN, "render", "--template", f.name, "--now", now, *args],
                              input="\n".join(json.dumps(v) for v in variables).encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        os.unlink(f.name)
    if done.returncode in (3, 6):
        line = done.stderr.decode(errors="replace").rstrip("\n")
        found = re.search(r"\.jinja:(\d+):(\d+): (.*)", line)
        assert found, line
        return [{"error": found.group(3), "compile": True} for _ in variables]
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.decode(errors='replace')}"
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(variables), (len(results), len(variables))
    return [{"output": r} if isinstance(r, str) else {"error": r["error"]} for r in results]


def difference(want, got):
    """One line that says where; None: equal."""
    if {k: want.get(k) for k in ("output", "error")} == {k: got.get(k) for k in ("output", "error")}:
        return None
    if "output" in want and "output" in got:
        a, b = want["output"], got["output"]
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return f"at {at}: {a[max(0, at - 20):at + 50]!r} expected, {b[max(0, at - 20):at + 50]!r} found"
    return f"{str(want)[:200]} expected, {str(got)[:200]} found"
