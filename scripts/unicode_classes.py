#!/usr/bin/env python3
"""Writes data/unicode_ranges.cpp: the class of every code point (letter, mark, number, punctuation,
symbol, white space), as the splitters of tokenizers need it.

The source is the regex engine whose pieces Braid has to reproduce: Hugging Face `tokenizers` 0.23.3
(Oniguruma with the tables of Unicode 16.0), asked about every code point. Run it in a venv:

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python scripts/unicode_classes.py > data/unicode_ranges.cpp
"""
import sys

from tokenizers import Regex, pre_tokenizers

CLASSES = [(r"\p{L}", 1), (r"\p{M}", 2), (r"\p{N}", 3), (r"\p{P}", 4), (r"\p{S}", 5), (r"\s", 6)]
CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)  # no text holds them

HEAD = """\
// Written by scripts/unicode_classes.py; not by hand. Unicode 16.0, as the regex engine of Hugging
// Face tokenizers 0.23.3 (Oniguruma) has it.
#include "data/unicode_classes.h"

namespace braid {

// Each entry is 8 times the code point where a class begins, plus the class.
// clang-format off
const uint32_t kUnicodeRanges[] = {
"""
TAIL = """};
// clang-format on

const std::size_t kUnicodeRangeCount = sizeof(kUnicodeRanges) / sizeof(kUnicodeRanges[0]);

}  // namespace braid
"""


def members(pattern):
    """The code points that the pattern matches."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    found = []
    for start in range(0, CODE_POINTS, 4096):
        block = [c for c in range(start, start + 4096) if c not in SURROGATES]
        found += [ord(piece) for piece, _ in split.pre_tokenize_str("".join(map(chr, block)))]
    return found


def main():
    classes = bytearray(CODE_POINTS)
    for pattern, number in CLASSES:
        for code_point in members(pattern):
            assert classes[code_point] == 0, hex(code_point)
            classes[code_point] = number
    starts = [c for c in range(CODE_POINTS) if c == 0 or classes[c] != classes[c - 1]]
    words = [f"{8 * c + classes[c]:#x}," for c in starts]
    sys.stdout.write(HEAD)
    for i in range(0, len(words), 10):
        print("    " + " ".join(words[i : i + 10]))
    sys.stdout.write(TAIL)


main()
