#!/usr/bin/env python3
"""Print src/io/character_table.c: the letters and numbers of Unicode.

  pip install unicodedata2==16.0.0
  tools/make_character_table.py | clang-format > src/io/character_table.c

Unicode 16.0 is what the regular expressions of the `tokenizers` package (0.23) know.
"""
import unicodedata2

HEAD = """/* Made by tools/make_character_table.py from Unicode {version}: categories L* and N*. */
#include "io/characters.h"

enum {{ L = EQ_CHAR_LETTER, N = EQ_CHAR_NUMBER }};

const eq_char_range eq_char_ranges[EQ_CHAR_RANGES] = {{"""


def ranges():
    """(first, last, category letter) of each run of letters or of numbers, in order."""
    runs = []
    for code in range(0x110000):
        category = unicodedata2.category(chr(code))[0]
        if category not in "LN":
            continue
        if runs and runs[-1][1] == code - 1 and runs[-1][2] == category:
            runs[-1][1] = code
        else:
            runs.append([code, code, category])
    return runs


def main():
    print(HEAD.format(version=unicodedata2.unidata_version))
    print(",\n".join(f"{{{first:#06x}, {last:#06x}, {kind}}}" for first, last, kind in ranges()))
    print("};")


if __name__ == "__main__":
    main()
