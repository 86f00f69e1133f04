"""A manifest with other content and hashes that agree, as docs/format.md has them."""
import ctypes
import json
import re


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3(data):
    """The library that the programs are linked with."""
    hash_of = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    hash_of.restype, hash_of.argtypes = Hash128, (ctypes.c_char_p, ctypes.c_size_t)
    h = hash_of(data, len(data))
    return f"{h.high:016x}{h.low:016x}"


def json_string(text):
    return re.sub(r"\\u00[0-9a-f]{2}", lambda m: r"\u" + m[0][2:].upper(), json.dumps(text, ensure_ascii=False))


def json_text(value, depth=0):
    """As docs/format.md section 2 has it."""
    pad, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, (dict, list)) and not value:
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{pad}{json_string(k)}: {json_text(v, depth + 1)}" for k, v in value.items()) + end + "}"
    if isinstance(value, list):
        return "[" + ",".join(pad + json_text(v, depth + 1) for v in value) + end + "]"
    if isinstance(value, float):
        text = "%.17g" % value
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}" if e else text if "." in text else text + ".0"
    return json_string(value) if isinstance(value, str) else json.dumps(value)


def bundle_id(m):
    files = [f for f in m["files"] if f["name"] != "selftest.json"]
    return xxh3(json_text(dict(version=m["version"], model=m["model"], dtype=m["recipe"]["dtype"], stored=m["recipe"]["stored"],
                               leaves=m["leaves"], source=m["source"], files=files)).encode())


def seal(bundle, change):
    """Call change with the manifest as an object; write it back with a bundle id and a digest that are true."""
    with open(bundle + "/manifest.json", encoding="utf-8") as f:
        m = json.load(f)
    change(m)
    m["bundle_id"], m["digest"] = bundle_id(m), ""
    text = (json_text(m) + "\n").encode()
    at = text.rindex(b'"digest": "') + len(b'"digest": "')
    with open(bundle + "/manifest.json", "wb") as f:
        f.write(text[:at] + xxh3(text[:at]).encode() + text[at:])
