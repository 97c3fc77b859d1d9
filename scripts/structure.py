#!/usr/bin/env python3
"""The structure of the sources, measured, and the rules about includes and devices, checked.

    scripts/structure.py           files and lines of each folder, longest functions, includes
    scripts/structure.py --check   only the rules; exit status 1 if one is broken (a ctest)
    scripts/structure.py --root D  another checkout; one without the table counts includes only

The folders, their order and which of them are siblings are read from docs/architecture.md: a folder
includes only folders above it in the table there, siblings never include each other, and no file
includes itself by a detour.

What runs on any device (the plain twins of operations, and the model) makes no tensor without saying
on which: the options of a tensor there is, or a device.
"""
import argparse
import pathlib
import re
import sys

SIBLINGS = re.compile(r"`kernels` and `parallel` do not include each other;.*?\.", re.S)


def folders_of(root):
    """The table's folders, lowest first."""
    text = (root / "docs/architecture.md").read_text()
    section = text.split("## Folders, lowest first", 1)
    if len(section) < 2:
        return []
    section = section[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([a-z_/]+)/` \|", section, re.M)


def siblings_of(root):
    """Groups of folders that never include each other, from the sentence below the table."""
    found = SIBLINGS.search((root / "docs/architecture.md").read_text())
    if not found:
        sys.exit("error: docs/architecture.md has no sentence \"`kernels` and `parallel` do not include each "
                 "other; ...\" below its table, from which this script reads who are siblings")
    clauses = re.split(r";|, nor do", found.group())
    return [re.findall(r"`([a-z_]+)`", clause) for clause in clauses]


def sources(root, folders):
    """(file, its folder): the longest folder name that the path begins with."""
    for path in sorted(root.glob("*/**/*")):
        name = path.relative_to(root).as_posix()
        if path.suffix not in (".h", ".cpp", ".cu", ".cuh") or not path.is_file():
            continue
        owners = [f for f in folders if name.startswith(f + "/")]
        if owners:
            yield name, max(owners, key=len)


def includes(root, name):
    """(line number, included file) for the project's own files."""
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if match:
            yield number, match.group(1)


def family(folder):
    return folder.split("/")[0]


def check(root, folders):
    """Messages about includes that break a rule: upward ones, those between siblings, cycles."""
    folder_of = dict(sources(root, folders))
    level = {folder: i for i, folder in enumerate(folders)}
    apart = [set(group) for group in siblings_of(root)]
    upward, graph = [], {}
    for name, folder in folder_of.items():
        graph[name] = []
        for number, target in includes(root, name):
            place = f'{name}:{number}: includes "{target}"'
            if target not in folder_of:
                head = target.split("/")[0]
                if head in ("tests", "bench"):
                    upward.append(f"{place}: product code includes nothing of {head}/")
                continue
            graph[name].append(target)
            other = folder_of[target]
            if family(folder) == family(other):
                continue  # one folder and the one inside it are one room
            if level[other] > level[folder]:
                upward.append(
                    f"{place}, upwards: {folder}/ stands before {other}/ in the table of "
                    "docs/architecture.md, so it may not know it. Move what is needed down, or pass it in.")
            elif any({family(folder), family(other)} <= group for group in apart):
                upward.append(
                    f"{place}: {folder}/ and {other}/ never include each other "
                    "(docs/architecture.md). What both need belongs into a folder below.")
    return upward, cycles_of(graph)


def cycles_of(graph):
    """Each circle of includes once, as "a -> b -> a"."""
    found, state, path = [], {}, []

    def visit(node):
        state[node] = "open"
        path.append(node)
        for target in graph.get(node, ()):
            if state.get(target) == "open":
                found.append(" -> ".join(path[path.index(target):] + [target]))
            elif target not in state:
                visit(target)
        path.pop()
        state[node] = "done"

    sys.setrecursionlimit(10000)
    for node in graph:
        if node not in state:
            visit(node)
    return found


MAKERS = re.compile(r"at::(zeros|ones|full|arange|empty|tensor|scalar_tensor|eye|linspace)\(")
ON_THE_HOST = {"model/geometry.cpp"}  # work of the host, moved as a whole (Geometry::to)


def call_text(text, begin):
    """The arguments of the call whose parenthesis opens just before `begin`."""
    depth = 1
    for end in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end]
    return text[begin:]


def check_devices(root, files):
    """Messages about tensors that are made on the CPU by default where any device is meant."""
    wrong = []
    for name in files:
        is_twin = name.startswith("kernels/") and name.endswith(("_reference.cpp", "visibility.cpp"))
        if not (is_twin or name.startswith("model/")) or name in ON_THE_HOST:
            continue
        text = (root / name).read_text()
        for made in MAKERS.finditer(text):
            if not re.search(r"options|device", call_text(text, made.end())):
                line = text.count("\n", 0, made.start()) + 1
                wrong.append(f"{name}:{line}: {made.group()}...) is on the CPU by default; make it with the options "
                             "of a tensor there is, so that it is on that tensor's device")
    return wrong


def functions(root, name):
    """(lines, first line, head) of each function, by braces; a rough reader of formatted code."""
    lines = (root / name).read_text().splitlines()
    start = head = None
    for number, line in enumerate(lines, 1):
        if start is None:
            # Formatted code closes a function at the indentation of its head.
            if re.match(r"^( {0,4})[A-Za-z~].*[^;,]*\) ?(const ?)?(noexcept ?)?(override ?)?\{$", line) and \
                    not re.match(r"^\s*(if|for|while|switch|catch|else|do)\b", line):
                start, head = number, line
            elif re.match(r"^( {0,4})[A-Za-z~][^;={}]*\($|^( {0,4})[A-Za-z~][^;={}]*\([^;{}]*,$", line) and \
                    not re.match(r"^\s*(if|for|while|switch|require|fail|return)\b", line):
                start, head = number, line
        if start is not None:
            indent = len(head) - len(head.lstrip())
            if line == " " * indent + "}":
                yield number - start + 1, start, head.strip()
                start = None
            elif line.endswith(";") and len(line) - len(line.lstrip()) <= indent + 1 and number > start:
                start = None
            elif line.endswith(";") and number > start and not any(
                    "{" in seen for seen in lines[start - 1:number]):
                start = None


def report(root, folders):
    files = list(sources(root, folders))
    print(f"{'folder':14} {'files':>5} {'lines':>6}  longest function")
    total_files = total_lines = 0
    for folder in folders:
        mine = [name for name, owner in files if owner == folder]
        count = sum(len((root / name).read_text().splitlines()) for name in mine)
        longest = max(((*f, name) for name in mine for f in functions(root, name)), default=None)
        text = f"{longest[0]:3} lines, {longest[3]}:{longest[1]}" if longest else ""
        print(f"{folder + '/':14} {len(mine):5} {count:6}  {text}")
        total_files += len(mine)
        total_lines += count
    lengths = sorted((f[0] for name, _ in files for f in functions(root, name)), reverse=True)
    print(f"{'all':14} {total_files:5} {total_lines:6}  "
          f"{sum(n > 60 for n in lengths)} functions over 60 lines, {sum(n > 40 for n in lengths)} over 40")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only check the rules")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    root = options.root.resolve()
    folders = folders_of(root)
    if not folders:
        sys.exit(f"error: {root}/docs/architecture.md has no table under '## Folders, lowest first'")
    missing = [f for f in folders if not (root / f).is_dir()]
    unlisted = sorted(d.name for d in root.iterdir()
                      if (d / "CMakeLists.txt").is_file() and d.name not in ("tests", "bench") and
                      d.name not in {family(f) for f in folders} and not d.name.startswith("build"))
    if not options.check:
        report(root, folders)
    wrong, cycles = check(root, folders)
    wrong += [f"docs/architecture.md: its table has {f}/, which does not exist" for f in missing]
    wrong += [f"{d}/ has a CMakeLists.txt but no row in the table of docs/architecture.md" for d in unlisted]
    on_the_cpu = check_devices(root, [name for name, _ in sources(root, folders)])
    for message in wrong + on_the_cpu:
        print("error: " + message, file=sys.stderr)
    for cycle in cycles:
        print("error: files that include each other: " + cycle, file=sys.stderr)
    print(f"includes that break the order: {len(wrong)}, cycles: {len(cycles)}, "
          f"tensors of the CPU by default: {len(on_the_cpu)}")
    sys.exit(1 if wrong or cycles or on_the_cpu else 0)


if __name__ == "__main__":
    main()
