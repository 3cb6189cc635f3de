#!/usr/bin/env python3
"""Print src/io/normal_table.c: canonical decompositions and combining classes of Unicode.

  pip install unicodedata2==16.0.0
  tools/make_normal_table.py > src/io/normal_table.c

Hangul syllables are left out: they follow a formula. The numbers that it prints to stderr are the
constants of src/io/normalize.h.
"""
import sys
import textwrap

import unicodedata2 as unicode

HEAD = """/* Made by tools/make_normal_table.py from Unicode {version}. */
#include "io/normalize.h"

/* As many numbers as a line holds. clang-format would write one in a line. */
/* clang-format off */"""
HANGUL = range(0xAC00, 0xD7A4)


def characters():
    return (chr(code) for code in range(0x110000)
            if not 0xD800 <= code < 0xE000 and code not in HANGUL)


def pairs():
    """(code, first, second) of each decomposition, in order; second is 0 when there is none."""
    for char in characters():
        parts = unicode.decomposition(char).split()
        if parts and not parts[0].startswith("<"):
            yield ord(char), int(parts[0], 16), int(parts[1], 16) if len(parts) > 1 else 0


def classes():
    """(first, last, combining class) of each run of characters with one that is not 0."""
    runs = []
    for char in characters():
        value = unicode.combining(char)
        if not value:
            continue
        if runs and runs[-1][1] == ord(char) - 1 and runs[-1][2] == value:
            runs[-1][1] = ord(char)
        else:
            runs.append([ord(char), ord(char), value])
    return runs


def table(head, rows):
    """An array of the numbers of all rows, as many in a line as fit."""
    numbers = [str(number) for row in rows for number in row]
    text = textwrap.fill(", ".join(numbers), 96, initial_indent="    ", subsequent_indent="    ")
    print(f"\nconst {head} = {{\n{text}}};")
    print(f"{head}: {len(rows)}", file=sys.stderr)


def main():
    print(HEAD.format(version=unicode.unidata_version))
    every = list(pairs())
    composed = [i for i, (code, first, second) in enumerate(every)
                if second and unicode.normalize("NFC", chr(first) + chr(second)) == chr(code)]
    composed.sort(key=lambda i: (every[i][2], every[i][1]))
    table("uint32_t eq_normal_pairs[3 * EQ_NORMAL_PAIRS]", every)
    table("uint16_t eq_normal_composed[EQ_NORMAL_COMPOSED]", [(i,) for i in composed])
    table("uint32_t eq_normal_classes[3 * EQ_NORMAL_CLASSES]", classes())


if __name__ == "__main__":
    main()
