#!/usr/bin/env python3
"""Writes src/data/text/unicode_tables.inc: what unicode.cpp knows of characters, from Python's unicodedata.

Usage: python3 scripts/write_unicode_tables.py > src/data/text/unicode_tables.inc
"""
import sys
import unicodedata

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]


def ranges(is_member):
    """Runs of code points, as (first, last)."""
    runs = []
    for character in filter(is_member, CHARACTERS):
        code = ord(character)
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return runs


def lower_case_runs():
    """Runs of every STRIDE-th code point that become lower case by adding the same number: (first, last, stride, added)."""
    runs = []
    for character in CHARACTERS:
        lower = character.lower()
        if lower == character or len(lower) > 1:  # U+0130 alone becomes two characters
            continue
        code, added = ord(character), ord(lower) - ord(character)
        if runs and runs[-1][3] == added:
            first, last, stride, _ = runs[-1]
            if code - last == stride or (first == last and code - last <= 2):
                runs[-1][1:3] = code, code - last
                continue
        runs.append([code, code, 1, added])
    return runs


def combining_classes():
    """Runs of code points of one canonical combining class other than 0: (first, last, class)."""
    classes = sorted({unicodedata.combining(character) for character in CHARACTERS} - {0})
    return sorted([*run, value] for value in classes for run in ranges(lambda c: unicodedata.combining(c) == value))


def decompositions():
    """Canonical decompositions, but for Hangul's: (first, second or 0, composed). Those of one kind are composed again."""
    composed, others = [], []
    for character in CHARACTERS:
        parts = unicodedata.decomposition(character).split()
        if parts and not parts[0].startswith("<"):
            codes = [int(part, 16) for part in parts]
            is_composed = len(codes) == 2 and unicodedata.normalize("NFC", character) == character
            (composed if is_composed else others).append([codes[0], codes[1] if len(codes) == 2 else 0, ord(character)])
    return sorted(composed), sorted(others)


def write(kind, name, rows, hexadecimal):
    print(f"\nconstexpr {kind} {name}[] = {{")
    line = ""
    for row in rows:
        item = "{" + ", ".join(f"{value:#x}" if i < hexadecimal else str(value) for i, value in enumerate(row)) + "}, "
        if len(line) + len(item) > 98:
            print("  " + line.rstrip())
            line = ""
        line += item
    print("  " + line.rstrip() + "\n};")


def main():
    composed, others = decompositions()
    print("// Written by scripts/write_unicode_tables.py from Unicode", unicodedata.unidata_version + "; not to be edited.")
    write("CodeRange", "kLetters", ranges(lambda c: unicodedata.category(c)[0] == "L"), 2)
    write("CodeRange", "kNumbers", ranges(lambda c: unicodedata.category(c)[0] == "N"), 2)
    write("LowerCaseRun", "kLowerCase", lower_case_runs(), 2)
    write("ClassRange", "kCombiningClasses", combining_classes(), 2)
    write("Composition", "kCompositions", composed, 3)
    write("Composition", "kOtherDecompositions", others, 3)


if __name__ == "__main__":
    main()
