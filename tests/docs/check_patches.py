#!/usr/bin/env python3
"""Checks that every patch of docs/examples still fits the tree, and names each place that does not.

    tests/docs/check_patches.py [ROOT]     the checkout this file is in, by default

A patch fits where the lines that it keeps and removes stand in its file, in their order, and where
the files that it adds are not there yet. Needs neither git nor patch.
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
faults = 0


def fault(patch, number, message):
    global faults
    faults += 1
    print(f"{patch.relative_to(root)}:{number}: {message}", file=sys.stderr)


def files_of(patch):
    """(line, old path or None, new path, [(line, the lines that must be there)]) of each file."""
    files, hunk, left = [], None, 0
    for number, line in enumerate(patch.read_text().splitlines(), 1):
        if left > 0 and line[:1] in (" ", "-"):
            hunk.append(line[1:])
            left -= 1
        elif line.startswith("diff --git "):
            old, new = line.split()[2:4]
            files.append([number, old[2:], new[2:], []])
        elif line.startswith("--- /dev/null"):
            files[-1][1] = None
        elif match := re.match(r"@@ -\d+(?:,(\d+))? \+", line):
            hunk, left = [], int(match[1] or 1)
            files[-1][3].append((number, hunk))
    return files


def check_hunks(patch, path, hunks):
    text = (root / path).read_text().splitlines()
    start = 0
    for number, lines in hunks:
        last = len(text) - len(lines)
        place = next((i for i in range(start, last + 1) if text[i:i + len(lines)] == lines), None)
        if place is None:
            fault(patch, number, f"{path} has no such lines where it changes them; write the patch anew")
            return
        start = place + len(lines)


patches = sorted((root / "docs/examples").glob("*.patch"))
if not patches:
    sys.exit("docs/examples has no patches")
for patch in patches:
    files = files_of(patch)
    if not files:
        fault(patch, 1, "changes no file; expected the format of git diff")
    for number, old, new, hunks in files:
        if old is None and (root / new).exists():
            fault(patch, number, f"adds {new}, which is there already")
        elif old is not None and not (root / old).exists():
            fault(patch, number, f"changes {old}, which is not there")
        elif old is not None:
            check_hunks(patch, old, hunks)
if faults:
    sys.exit(f"{faults} faults in {len(patches)} patches")
print(f"{len(patches)} patches fit")
