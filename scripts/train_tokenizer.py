#!/usr/bin/env python3
"""Makes a small tokenizer out of a text: byte-level BPE with DeepSeek-V4's special tokens.

  scripts/train_tokenizer.py TOKENIZER.json IDS TEXT...

IDS is the size of the vocabulary, at least 512: three special tokens, 256 bytes, merges, and the tokens of
conversations at the end. Texts are plain UTF-8; lines "%" part documents and are left out. Words, numbers,
punctuation and white space are cut apart first, so that a word has the same ids wherever it stands. Ties
between pairs go to the one that sorts first: equal texts give equal bytes.
"""

import collections
import heapq
import json
import os
import re
import sys

PATTERN = r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+|\s+"
SENTENCE_TOKENS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
CHAT_TOKENS = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<｜latest_reminder｜>"] + [
    f"<｜{name}｜>" for name in ("action", "query", "authority", "domain", "title", "read_url")
]
SMALLEST = 512


def byte_symbols():
    """The character that stands for each byte in a tokenizer.json (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def word_counts(paths):
    counts = collections.Counter()
    for path in paths:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                if line != "%\n":
                    counts.update(re.findall(PATTERN, line))
    return counts


def merges(counts, wanted):
    """The `wanted` most useful merges, each [left, right], of words given by how often they occur."""
    symbols = byte_symbols()
    words = [([symbols[byte] for byte in word.encode()], count) for word, count in sorted(counts.items())]
    pairs = collections.Counter()
    places = collections.defaultdict(set)  # pair -> words that have it, or had
    for at, (pieces, count) in enumerate(words):
        for pair in zip(pieces, pieces[1:]):
            pairs[pair] += count
            places[pair].add(at)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    result = []
    while heap and len(result) < wanted:
        count, pair = heapq.heappop(heap)
        if -count != pairs[pair]:  # an older count; the present one is in the heap, too
            continue
        result.append(list(pair))
        changed = set()
        for at in places.pop(pair):
            pieces, count = words[at]
            for old in zip(pieces, pieces[1:]):
                pairs[old] -= count
                changed.add(old)
            merged = []
            for piece in pieces:
                if merged and (merged[-1], piece) == pair:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces[:] = merged
            for new in zip(pieces, pieces[1:]):
                pairs[new] += count
                places[new].add(at)
                changed.add(new)
        for each in changed:
            if pairs[each] > 0 and each != pair:
                heapq.heappush(heap, (-pairs[each], each))
    return result


def tokenizer(vocabulary, counts):
    learned = merges(counts, vocabulary - len(SENTENCE_TOKENS) - 256 - len(CHAT_TOKENS))
    # Two merges may make the same piece.
    vocab = list(dict.fromkeys(SENTENCE_TOKENS + byte_symbols() + ["".join(pair) for pair in learned]))
    ids = {piece: i for i, piece in enumerate(vocab)}
    ids.update((token, len(vocab) + i) for i, token in enumerate(CHAT_TOKENS))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, **flags} for token in SENTENCE_TOKENS + CHAT_TOKENS
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: ids[piece] for piece in vocab},
            "merges": learned,
        },
    }


def main():
    if len(sys.argv) < 4 or not sys.argv[2].isdigit() or int(sys.argv[2]) < SMALLEST:
        sys.exit(__doc__)
    path, vocabulary, *texts = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    result = tokenizer(vocabulary, word_counts(texts))
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(result, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    size = len(result["model"]["vocab"]) + len(CHAT_TOKENS)
    print(f"{path}: {size} ids, {len(result['model']['merges'])} of them merges")


if __name__ == "__main__":
    main()
