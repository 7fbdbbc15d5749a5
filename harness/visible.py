"""Text of others made fit to be looked at: what would move the cursor, colour the terminal or turn the line around.

Pages, tables and messages show such a character as its escape, `\\x1b`, so that the name still tells itself apart.
"""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), marks that change the direction of writing, separators of lines, the byte order
# mark, and halves of a surrogate pair, which no encoding can write.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
IN_JSON = re.compile(r"(\\\\)|\\u(00[019][0-9a-f]|007f|008[0-9a-f]|061c|200[ef]|202[89a-e]|206[6-9]|feff)")
LAYOUT = "\n\t"


def visible(text: str, *, layout: str = LAYOUT) -> str:
    r"""Return `text` with every hidden character but those of `layout` as its escape.

    >>> visible("a\x1b[31m\u202eb\n"), visible("a\nb", layout="")
    ('a\\x1b[31m\\u202eb\n', 'a\\nb')
    """
    return HIDDEN.sub(lambda m: m[0] if m[0] in layout else repr(m[0])[1:-1], text)


def visible_json(text: str) -> str:
    r"""Return JSON, as `json.dumps` writes it in ASCII, whose strings hold no hidden character.

    >>> visible_json('"a\\u001b\\n"')
    '"a\\\\u001b\\n"'
    """
    return IN_JSON.sub(lambda m: m[1] or f"\\\\u{m[2]}", text)
