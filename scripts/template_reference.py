"""Templates as the reference renders them: jinja2 in the environment that transformers makes for chat templates.
Needs transformers (and with it jinja2); used by make_template_goldens.py and template_diff.py only.
"""
import datetime
import re
import warnings

from transformers.utils import chat_template_utils

warnings.simplefilter("ignore")
NOW = "2024-07-26 12:00:00"


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.strptime(NOW, "%Y-%m-%d %H:%M:%S")


chat_template_utils.datetime = Clock


def render(template, variables):
    """{"output": text} or {"error": "Type: text"}; with "compile": True where the template itself is wrong."""
    try:
        compiled = chat_template_utils._compile_jinja_template.__wrapped__(template)
    except Exception as e:
        return {"error": f"{type(e).__name__}: {short(e)}", "compile": True}
    try:
        return {"output": compiled.render(**variables)}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def short(e):
    """A syntax error of the code that jinja2 makes names a line of that code: left out."""
    return re.sub(r" \(<(template|unknown)>, line \d+\)", "", str(e))
