"""Makes conversations out of a dictionary: what a word means, by WordNet's files.

  definitions_text.py TRAIN.jsonl VALIDATION.jsonl FILE...

FILE... are WordNet's index.* and data.* (package wordnet-base). One conversation for each word and part of
speech, with its most frequent sense:

  {"messages": [{"role": "user", "content": "Define the noun: dog"},
                {"role": "assistant", "content": "dog: a member of the genus Canis ..."}]}

One word in fifty, by a hash of it, is in the validation alone, with all of its parts of speech. Prints how
many conversations there are. Equal files give equal bytes.
"""

import hashlib
import json
import os
import re
import sys

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
WORD = re.compile(r"[a-z][a-z' -]*")
LONGEST_WORD, LONGEST_DEFINITION = 32, 240  # characters
VALIDATION_SHARE = 50  # one of so many


def lines(path):
    """The lines behind the licence, which is indented."""
    with open(path, encoding="ascii") as file:
        return [line for line in file if not line.startswith(" ")]


def definitions(path):
    """{offset: definition} of a data file, without examples, which are in quotes."""
    result = {}
    for line in lines(path):
        fields, gloss = line.split(" | ", 1)
        definition = re.split(r'; "|;? *"', gloss.strip(), maxsplit=1)[0].rstrip(" ;:")
        result[fields.split(" ", 1)[0]] = definition
    return result


def conversations(part, index, data):
    meanings = definitions(data)
    for line in lines(index):
        fields = line.split()
        word = fields[0].replace("_", " ")
        senses = int(fields[2])
        meaning = meanings[fields[-senses]]  # by falling frequency
        if WORD.fullmatch(word) and len(word) <= LONGEST_WORD and 0 < len(meaning) <= LONGEST_DEFINITION:
            yield word, {
                "messages": [
                    {"role": "user", "content": f"Define the {PARTS[part]}: {word}"},
                    {"role": "assistant", "content": f"{word}: {meaning}"},
                ]
            }


def is_validation(word):
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") % VALIDATION_SHARE == 0


def main():
    train, validation, *files = sys.argv[1:]
    by_name = {os.path.basename(path): path for path in files}
    counts = [0, 0]
    with open(train, "w", encoding="ascii") as first, open(validation, "w", encoding="ascii") as second:
        for part in PARTS:
            for word, row in conversations(part, by_name[f"index.{part}"], by_name[f"data.{part}"]):
                held = is_validation(word)
                counts[held] += 1
                (second if held else first).write(json.dumps(row) + "\n")
    print(f"{counts[0]} training and {counts[1]} validation")


if __name__ == "__main__":
    main()
