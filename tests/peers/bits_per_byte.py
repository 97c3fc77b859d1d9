#!/usr/bin/env python3
"""Computes bits per byte of a model on texts apart from `braid evaluate`, and compares the two.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 numpy safetensors
    venv/bin/python tests/peers/bits_per_byte.py build/braid MODEL tokenizer.json TEXTS.jsonl [--documents N]

Hugging Face `tokenizers` encodes the texts, `braid probe` gives the logits of each document behind the begin
token, and the rest is numpy: the log-probability of every token in float64, summed over all tokens, divided by
ln 2 and by the bytes of UTF-8. Documents are taken whole, so that none is cut into contexts. Everything is
computed in float64. Exit status 1 if the two differ by more than 1e-6.
"""
import argparse
import json
import math
import os
import subprocess
import tempfile

import numpy
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

BEGIN = "<｜begin▁of▁sentence｜>"
PIECE_BYTES = 1 << 30  # of logits computed at once


def logits_of(braid, model, ids, folder):
    """float64 [B, S, V]"""
    inputs, outputs = os.path.join(folder, "inputs.safetensors"), os.path.join(folder, "outputs.safetensors")
    save_file({"input_ids": ids}, inputs)
    command = [braid, "probe", model, "--inputs", inputs, "--outputs", outputs, "--dtype", "float64"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load_file(outputs)["logits"]


def nats_of(logits, targets):
    """Of logits [S, V] and targets [S]."""
    largest = logits.max(axis=-1, keepdims=True)
    log_sum = largest[:, 0] + numpy.log(numpy.exp(logits - largest).sum(axis=-1))
    return float((log_sum - logits[numpy.arange(len(targets)), targets]).sum())


def bits_per_byte(braid, model, tokenizer, texts, vocabulary, folder):
    begin = tokenizer.token_to_id(BEGIN)
    documents = [[begin, *tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]
    documents.sort(key=len)
    nats = 0.0
    while documents:
        rows = max(1, PIECE_BYTES // (8 * vocabulary * len(documents[0])))
        batch, documents = documents[:rows], documents[rows:]
        ids = numpy.zeros((len(batch), max(map(len, batch))), numpy.int64)  # behind a document anything
        for row, document in zip(ids, batch):
            row[: len(document)] = document
        for logits, document in zip(logits_of(braid, model, ids, folder), batch):
            nats += nats_of(logits[: len(document) - 1], numpy.array(document[1:]))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("braid")
    parser.add_argument("model")
    parser.add_argument("tokenizer")
    parser.add_argument("texts", help='JSONL, one {"text": ...} a line')
    parser.add_argument("--documents", type=int, default=40, help="how many of them, from the first")
    arguments = parser.parse_args()
    with open(arguments.texts, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file.read().split("\n") if line][: arguments.documents]
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "texts.jsonl")
        with open(data, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        longest = max(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts) + 2
        command = [arguments.braid, "evaluate", arguments.model, "--data", data, "--json", "--dtype", "float64"]
        evaluated = subprocess.run([*command, "--seq-len", str(longest)], check=True, stdout=subprocess.PIPE)
        here = json.loads(evaluated.stdout)
        apart = bits_per_byte(
            arguments.braid, arguments.model, tokenizer, texts, tokenizer.get_vocab_size(), folder
        )
    difference = abs(here["bits_per_byte"] - apart)
    print(f"{here['documents']} documents, {here['tokens']} tokens, {here['text_bytes']} bytes")
    print(f"bits per byte: braid evaluate {here['bits_per_byte']:.9f}, from logits {apart:.9f}")
    print(f"difference {difference:.1e}")
    raise SystemExit(1 if difference > 1e-6 else 0)


main()
