"""Makes conversations and a text out of a dictionary: what a word means, by WordNet's files.

  definitions_text.py TRAIN.jsonl VALIDATION.jsonl TEXT.txt FILE...

FILE... are WordNet's index.* and data.* (package wordnet-base). One conversation for each word and part of
speech, with its most frequent sense:

  {"messages": [{"role": "user", "content": "Define the noun: dog"},
                {"role": "assistant", "content": "dog: a member of the genus Canis ..."}]}

Their order is that of a hash, so that the first thousands are a sample of all. One word in fifty, by a hash
of it, is in the validation alone, with all of its parts of speech. TEXT.txt is
to pretrain on: the same words without those of the validation, with WordNet's examples, documents parted by
lines "%":

  dog, noun
  The word dog means: a member of the genus Canis ... For example: the dog barked all night.

Prints how many conversations there are. Equal files give equal bytes.
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


def meanings(path):
    """{offset: (definition, examples)} of a data file; examples are in quotes there."""
    result = {}
    for line in lines(path):
        fields, gloss = line.split(" | ", 1)
        definition = re.split(r'; "|;? *"', gloss.strip(), maxsplit=1)[0].rstrip(" ;:")
        result[fields.split(" ", 1)[0]] = definition, re.findall(r'"([^"]+)"', gloss)
    return result


def entries(index, data):
    """(word, definition, examples) of a part of speech."""
    by_offset = meanings(data)
    for line in lines(index):
        fields = line.split()
        word = fields[0].replace("_", " ")
        senses = int(fields[2])
        definition, examples = by_offset[fields[-senses]]  # by falling frequency
        if WORD.fullmatch(word) and len(word) <= LONGEST_WORD and 0 < len(definition) <= LONGEST_DEFINITION:
            yield word, definition, examples


def conversation(part, word, definition):
    return {
        "messages": [
            {"role": "user", "content": f"Define the {part}: {word}"},
            {"role": "assistant", "content": f"{word}: {definition}"},
        ]
    }


def document(part, word, definition, examples):
    sentences = [f"The word {word} means: {definition}"]
    if examples:
        sentences.append("For example: " + "; ".join(examples))
    return f"{word}, {part}\n" + ". ".join(sentences) + ".\n"


def number(word):
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")


def is_validation(word):
    return number(word) % VALIDATION_SHARE == 0


def main():
    train, validation, text, *files = sys.argv[1:]
    by_name = {os.path.basename(path): path for path in files}
    rows, documents = [], []  # (word, the line or document)
    for key, part in PARTS.items():
        for word, definition, examples in entries(by_name[f"index.{key}"], by_name[f"data.{key}"]):
            rows.append((word, json.dumps(conversation(part, word, definition)) + "\n"))
            if not is_validation(word):
                documents.append(document(part, word, definition, examples))
    rows.sort(key=lambda row: (number(row[0]), row[1]))
    counts = []
    for path, held in ((train, False), (validation, True)):
        chosen = [row for word, row in rows if is_validation(word) == held]
        counts.append(len(chosen))
        with open(path, "w", encoding="ascii") as file:
            file.writelines(chosen)
    with open(text, "w", encoding="ascii") as file:
        file.write("%\n".join(documents))
    print(f"{counts[0]} training and {counts[1]} validation")


if __name__ == "__main__":
    main()
