"""Makes conversations and a text out of a dictionary: what a word means, by WordNet's files.

  definitions_text.py FOLDER FILE...

FILE... are WordNet's index.* and data.* (package wordnet-base). FOLDER/definitions.jsonl has one conversation for each word and part of
speech, with its most frequent sense:

  {"messages": [{"role": "user", "content": "Define the noun: dog"},
                {"role": "assistant", "content": "dog: a member of the genus Canis ..."}]}

Their order is that of a hash, so that the first thousands are a sample of all. One word in fifty, by a hash
of it, is in definitions.validation.jsonl alone, with all of its parts of speech. definitions.pairs.jsonl and
definitions.pairs.validation.jsonl are the same questions with the right answer and one that has the meaning
of another word:

  {"prompt": "Define the noun: dog", "chosen": "dog: a member of ...", "rejected": "dog: make less visible"}

definitions.txt is to pretrain on: the same words without those of the validation, with WordNet's examples,
documents parted by lines "%":

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


def question(part, word):
    return f"Define the {part}: {word}"


def conversation(part, word, definition):
    return {
        "messages": [
            {"role": "user", "content": question(part, word)},
            {"role": "assistant", "content": f"{word}: {definition}"},
        ]
    }


def pair(part, word, definition, wrong):
    return {
        "prompt": question(part, word),
        "chosen": f"{word}: {definition}",
        "rejected": f"{word}: {wrong}",
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


def write_rows(path, rows):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    folder, *files = sys.argv[1:]
    by_name = {os.path.basename(path): path for path in files}
    rows, documents = [], []
    for key, part in PARTS.items():
        for word, definition, examples in entries(by_name[f"index.{key}"], by_name[f"data.{key}"]):
            rows.append((part, word, definition))
            if not is_validation(word):
                documents.append(document(part, word, definition, examples))
    rows.sort(key=lambda row: (number(row[1]), row))
    counts = []
    for end, held in (("jsonl", False), ("validation.jsonl", True)):
        chosen = [row for row in rows if is_validation(row[1]) == held]
        counts.append(len(chosen))
        write_rows(f"{folder}/definitions.{end}", [conversation(*row) for row in chosen])
        # Half of all away, in an order that is random: no form of the same word.
        away = len(chosen) // 2
        others = chosen[away:] + chosen[:away]
        write_rows(
            f"{folder}/definitions.pairs.{end}",
            [pair(*row, other[2]) for row, other in zip(chosen, others) if row[2] != other[2]],
        )
    with open(f"{folder}/definitions.txt", "w", encoding="ascii") as file:
        file.write("%\n".join(documents))
    print(f"{counts[0]} training and {counts[1]} validation")


if __name__ == "__main__":
    main()
