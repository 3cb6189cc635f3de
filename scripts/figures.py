#!/usr/bin/env python3
"""Form of the C sources: lengths, nesting, parameters; prints a summary and what is too big.

  scripts/figures.py [FILE...]     default: all of include/ and src/; exit code 1 past a limit

Relies on the formatting: a function's body starts with "{" and ends with "}" in the first column.
"""
import glob
import os
import re
import sys

LIMITS = {"file": 700, "function": 100, "parameters": 11, "nesting": 5, "columns": 100}
NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
WORDS = re.compile(r"#\s*if\s+0\b|\b(?:TODO|FIXME|XXX)\b")


def functions(text):
    """(name, line, length, parameters, nesting) of each function in the text."""
    lines = NOISE.sub(lambda m: "\n" * m[0].count("\n"), text).split("\n")
    for start, line in enumerate(lines):
        if line != "{":
            continue
        end = next(i for i in range(start, len(lines)) if lines[i] == "}")
        first = start
        while first > 0 and lines[first - 1].strip() and lines[first - 1][-1] not in ";}":
            first -= 1
        head = " ".join(lines[first:start])
        if "(" not in head:
            continue
        arguments = head[head.index("(") + 1:]
        depth = deepest = 0
        for character in "\n".join(lines[start:end]):
            depth += (character == "{") - (character == "}")
            deepest = max(deepest, depth)
        name = re.search(r"(\w+)\s*\(", head)[1]
        yield name, first + 1, end - first + 1, arguments.count(",") + 1, deepest - 1


def look(path, complaints):
    """Measure one file; returns its number of lines and the lengths of its functions."""
    with open(path, encoding="utf-8") as source:
        text = source.read()
    lines = text.split("\n")

    def judge(what, value, where):
        if value > LIMITS[what]:
            complaints.append(f"{where}: {what} {value}, limit {LIMITS[what]}")

    judge("file", len(lines) - 1, path)
    for number, line in enumerate(lines, 1):
        judge("columns", len(line), f"{path}:{number}")
    for match in WORDS.finditer(text):
        complaints.append(f"{path}: {match[0]}")
    lengths = []
    for name, line, length, parameters, nesting in functions(text):
        where = f"{path}:{line}: {name}"
        judge("function", length, where)
        judge("parameters", parameters, where)
        judge("nesting", nesting, where)
        lengths.append(length)
    return len(lines) - 1, lengths


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    files = sys.argv[1:] or sorted(glob.glob("include/*.h") + glob.glob("src/**/*.[ch]",
                                                                        recursive=True))
    complaints, lines, lengths = [], [], []
    for path in files:
        count, found = look(path, complaints)
        lines.append(count)
        lengths += found
    lengths.sort()
    long = sum(length > 50 for length in lengths)
    print(f"{len(files)} files, {sum(lines)} lines, longest {max(lines)}; {len(lengths)} functions,"
          f" median {lengths[len(lengths) // 2]}, longest {lengths[-1]}, {long} over 50 lines")
    print("\n".join(complaints) if complaints else "form: within the limits")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
