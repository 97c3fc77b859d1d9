"""Writes documents that only a memory beyond a short window can predict: repeats_text.py FILE

Each is a list of 12 to 20 random words of three letters, said again until 254 bytes are full. Word
and space are four bytes, so what comes next stood 48 to 80 bytes before. Prints how many there are.
"""
import random
import string
import sys

DOCUMENTS, BYTES = 12_000, 254

draw = random.Random(1)
with open(sys.argv[1], "w", encoding="ascii") as out:
    for number in range(DOCUMENTS):
        words = ["".join(draw.choices(string.ascii_lowercase, k=3)) for _ in range(draw.randint(12, 20))]
        text = " ".join(words * 6)[:BYTES]
        out.write(("%\n" if number else "") + text + "\n")
print(DOCUMENTS)
