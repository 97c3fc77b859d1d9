#!/usr/bin/env python3
"""Turns Parquet, Arrow, CSV, TSV and JSON files into JSONL, which Braid reads.

  scripts/to_jsonl.py [--columns A,B] [--split NAME] [--rows N] OUTPUT INPUT...

INPUT: a file (*.parquet, *.arrow, *.feather, *.csv, *.tsv, *.json, *.jsonl; also .gz, .bz2, .xz of the
text formats), or a folder as a hub of datasets has it, of which all such files are read in the order of
their paths; --split keeps those whose path names that split (data/train-00000-of-00002.parquet).
OUTPUT: *.jsonl, or *.jsonl.gz. It appears whole or not at all; an existing file is not replaced without --force.
--columns keeps these columns, in this order. A row becomes one line with the keys of its columns; nested values
stay nested; dates become ISO 8601; bytes that are no UTF-8, and numbers that JSON has none for, are an error
that names file, row and column.

Parquet and Arrow need the package pyarrow. Where this Python has none, it is installed into an environment of its
own, in $BRAID_PREFIX (default: ~/.cache/braid).
"""

import argparse
import bz2
import csv
import gzip
import io
import json
import lzma
import math
import os
import pathlib
import re
import sys
import tempfile

from own_environment import with_package

PYARROW = "pyarrow==26.0.1"
BINARY = (".parquet", ".arrow", ".feather")
TEXT = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def fail(message):
    sys.exit(f"error: {message}")


def suffix_of(path):
    """(format, compression), both with their dot; an empty format where the name has none that is read."""
    name = path.name.lower()
    compression = next((end for end in COMPRESSED if name.endswith(end)), "")
    name = name.removesuffix(compression)
    formats = TEXT if compression else TEXT + BINARY
    return next((end for end in formats if name.endswith(end)), ""), compression


def files_of(inputs, split):
    files = []
    for path in map(pathlib.Path, inputs):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and suffix_of(file)[0]
                           and not any(part.startswith(".") for part in file.relative_to(path).parts))
            # A hub keeps descriptions of the data beside it.
            found = [file for file in found if file.name not in ("dataset_info.json", "dataset_infos.json", "state.json")]
            if split:
                word = re.compile(rf"(^|[^A-Za-z]){re.escape(split)}([^A-Za-z]|$)")
                found = [file for file in found if word.search(str(file.relative_to(path)))]
            if not found:
                fail(f"{path}: no file to read{f' of the split {split}' if split else ''}; expected one of "
                     + ", ".join(BINARY + TEXT))
            files += found
        elif not path.exists():
            fail(f"{path}: no such file or folder")
        elif not suffix_of(path)[0]:
            fail(f"{path}: its name tells no format; expected one of {', '.join(BINARY + TEXT)}, the text formats "
                 f"also with {', '.join(COMPRESSED)}")
        else:
            files.append(path)
    return files


def parquet_rows(path):
    import pyarrow.parquet as parquet
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def arrow_rows(path):
    import pyarrow
    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = pyarrow.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except pyarrow.ArrowInvalid:
            source.seek(0)
            batches = pyarrow.ipc.open_stream(source)
        for batch in batches:
            yield from batch.to_pylist()


def text_of(path, compression):
    # utf-8-sig: a byte order mark is no text.
    opened = COMPRESSED[compression](path, "rb") if compression else open(path, "rb")
    return io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")


def csv_rows(path, kind, compression):
    csv.field_size_limit(sys.maxsize)
    with text_of(path, compression) as file:
        reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=True)
        if not reader.fieldnames:
            fail(f"{path}: empty; expected a first line with the names of the columns")
        for row in reader:
            if None in row or None in row.values():
                fail(f"{path}:{reader.line_num}: a row of another length than the first line's {len(reader.fieldnames)} "
                     "columns")
            yield row


def json_rows(path, compression):
    with text_of(path, compression) as file:
        content = json.load(file)
    # {"data": [...]}: an array under its only key.
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), list):
        content = next(iter(content.values()))
    if not isinstance(content, list):
        fail(f"{path}: expected an array of objects, got {type(content).__name__}")
    yield from content


def json_line_rows(path, compression):
    with text_of(path, compression) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    fail(f"{path}:{number}: {error}")


def rows_of(path):
    kind, compression = suffix_of(path)
    if kind == ".parquet":
        return parquet_rows(path)
    if kind in BINARY:
        return arrow_rows(path)
    if kind in (".csv", ".tsv"):
        return csv_rows(path, kind, compression)
    if kind == ".json":
        return json_rows(path, compression)
    return json_line_rows(path, compression)


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def line_of(path, number, row, columns):
    if not isinstance(row, dict):
        fail(f"{path}: row {number}: expected an object, got {type(row).__name__}")
    result = {}
    for column in columns or row:
        if column not in row:
            fail(f"{path}: row {number}: no column '{column}'; there are {', '.join(map(str, row))}")
        try:
            result[column] = plain(row[column])
        except ValueError as error:
            fail(f"{path}: row {number}, column '{column}': {error}")
    return json.dumps(result, ensure_ascii=False).encode("utf-8") + b"\n"


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    parser.add_argument("output")
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--columns", type=lambda names: names.split(","))
    parser.add_argument("--split")
    parser.add_argument("--rows", type=int, default=sys.maxsize)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    output = pathlib.Path(options.output)
    if not output.name.endswith((".jsonl", ".jsonl.gz")):
        fail(f"{output}: expected a name that ends in .jsonl or .jsonl.gz")
    if output.exists() and not options.force:
        fail(f"{output} is there already; --force replaces it")
    files = files_of(options.inputs, options.split)
    if any(file.resolve() == output.resolve() for file in files):
        fail(f"{output} is an input too")
    if any(suffix_of(file)[0] in BINARY for file in files):
        with_package(PYARROW)

    written = 0
    handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=output.name + ".")
    try:
        # No time stamp in the gzip: equal rows give equal bytes.
        with open(handle, "wb") as raw, \
                (gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) if output.name.endswith(".gz") else raw) as out:
            for path in files:
                before = written
                try:
                    for row in rows_of(path):
                        if written == options.rows:
                            break
                        out.write(line_of(path, written - before + 1, row, options.columns))
                        written += 1
                except (OSError, EOFError, UnicodeError, ValueError, csv.Error, lzma.LZMAError) as error:
                    fail(f"{path}: {error}")
                print(f"{path}: {written - before} rows", file=sys.stderr)
            out.flush()
            raw.flush()
            os.fsync(raw.fileno())
        if written == 0:
            fail("no rows at all")
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, output)
    except BaseException:
        os.unlink(temporary)
        raise
    print(f"{output}: {written} rows", file=sys.stderr)


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    main()
