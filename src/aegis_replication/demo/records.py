"""Which data does the proof load? Every named character that this Python knows, as a key and a JSON value."""

import sys
import unicodedata
from collections.abc import Iterator

import msgspec

Record = tuple[bytes, bytes]


def unicode_records() -> Iterator[Record]:
    """Key `U+1F600` and value {"name", "category", "numeric", "decomposition"} of each named code point, in order.

    How many there are follows from the Unicode version of this Python: 138,552 with 14.0.
    """
    encode = msgspec.json.Encoder().encode
    name_of, category_of = unicodedata.name, unicodedata.category
    for code_point in range(sys.maxunicode + 1):
        character = chr(code_point)
        name = name_of(character, None)
        if name is None:
            continue
        value = {
            "name": name,
            "category": category_of(character),
            "numeric": unicodedata.numeric(character, None),
            "decomposition": unicodedata.decomposition(character),
        }
        yield b"U+%04X" % code_point, encode(value)
