"""Writes src/models/umt5/html_entities.inc: the HTML5 named character references, sorted, as C string pairs.

Usage: python3 tools/gen_html_entities.py > src/models/umt5/html_entities.inc
"""

from html.entities import html5


def c_string(text: str) -> str:
    """UTF-8 bytes as octal escapes, which cannot swallow the characters behind them."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\{b:03o}" for b in text.encode()) + '"'


for name in sorted(html5, key=str.encode):
    print(f"{{{c_string(name)}, {c_string(html5[name])}}},")
