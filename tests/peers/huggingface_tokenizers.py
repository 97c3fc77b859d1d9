#!/usr/bin/env python3
"""Compares Braid's tokenizer with Hugging Face `tokenizers` on texts: the ids of every document, and
the throughput of both in one run.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tests/peers/huggingface_tokenizers.py build/bench/tokenizer_bench tokenizer.json FILE...

Documents are pieces of 4000 bytes. The files must be UTF-8 and spell no special token: Braid keeps
those as text. Exit status 1 if any id differs. Throughput is the best of three passes; Hugging Face's
is `encode_batch_fast` with one thread, and with two.
"""
import os
import subprocess
import sys
import tempfile
import time
from array import array

ONE_THREAD = "--one-thread"


def documents(path):
    with open(path, "rb") as file:
        data = file.read()
    start = 0
    while start < len(data):
        end = min(start + 4000, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        yield data[start:end].decode()
        start = end


def rate(tokenizer, texts, size):
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        best = max(best, size / 1e6 / (time.perf_counter() - start))
    return best


def rate_with_threads(threads, tokenizer_json, path):
    """In a process of its own: the number of threads is fixed at its start."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM=str(threads > 1).lower())
    command = [sys.executable, __file__, ONE_THREAD, tokenizer_json, path]
    return float(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def print_rate(tokenizer_json, path):
    from tokenizers import Tokenizer

    print(rate(Tokenizer.from_file(tokenizer_json), list(documents(path)), os.path.getsize(path)))


def different_documents(tokenizer, ids_path, paths):
    ids = array("I")
    with open(ids_path, "rb") as file:
        ids.frombytes(file.read())
    at = different = total = 0
    for path in paths:
        texts = list(documents(path))
        for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
            mine = list(ids[at + 1 : at + 1 + ids[at]])
            at += 1 + ids[at]
            total += 1
            if mine != encoding.ids:
                different += 1
                if different <= 3:
                    print(f"{path}: other ids for {text[:60]!r}...")
    assert at == len(ids)
    print(f"{total} documents, {different} of them with other ids")
    return different


def main():
    from tokenizers import Tokenizer

    bench, tokenizer_json, *paths = sys.argv[1:]
    tokenizer = Tokenizer.from_file(tokenizer_json)
    with tempfile.TemporaryDirectory() as folder:
        ids_path = os.path.join(folder, "ids")
        subprocess.run([bench, tokenizer_json, "--ids", ids_path, *paths], check=True)
        different = different_documents(tokenizer, ids_path, paths)
    for path in paths:
        one, two = (rate_with_threads(n, tokenizer_json, path) for n in (1, 2))
        print(f"{path}: Hugging Face {one:.1f} MB/s on one thread, {two:.1f} on two")
    sys.exit(1 if different else 0)


if sys.argv[1:2] == [ONE_THREAD]:
    print_rate(*sys.argv[2:])
else:
    main()
