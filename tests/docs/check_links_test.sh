#!/usr/bin/env bash
# check_links.sh finds every kind of fault, and none where there is none.
set -euo pipefail
check=$(realpath "$(dirname "$0")/check_links.sh")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
mkdir -p core docs bench scripts
touch core/a.h core/a.cpp bench/a_bench.cpp scripts/a.sh

cat >docs/page.md <<'PAGE'
# A page, with a heading
PAGE
cat >README.md <<'PAGE'
[a page](docs/page.md), [its heading](docs/page.md#a-page-with-a-heading), [itself](#words), [the web](https://a.invalid/b)
`core/a.{h,cpp}` `core/*.h` `bench/a_bench --all` `core/` `kernels/OP.cpp` `core/later.h` `other/folder.h`
<!-- not here yet: core/later.h -->
```
scripts/a.sh core/nothing.h
```
# Words
PAGE
"$check" "$root" >/dev/null || { echo "a sound checkout was refused" >&2; exit 1; }

expect_fault() {  # MESSAGE, with README.md on standard input
  local said
  cat >README.md
  if said=$("$check" "$root" 2>&1); then
    echo "not found: $1" >&2
    exit 1
  fi
  [[ $said == *"$1"* ]] || { printf 'expected "%s" in:\n%s\n' "$1" "$said" >&2; exit 1; }
}
page='[a](docs/page.md)'
expect_fault "README.md:2: the link (docs/no.md) points at no file" <<<"$page"$'\n[b](docs/no.md)'
expect_fault "points at no heading of docs/page.md" <<<"$page [b](docs/page.md#nowhere)"
expect_fault "there is no core/b.h" <<<"$page"' `core/b.h`'
expect_fault "there is no core/a.{h,py}" <<<"$page"' `core/a.{h,py}`'
expect_fault "there is no scripts/b.sh" <<<"$page"$'\n```\nbuild && scripts/b.sh -n 2\n```'
expect_fault "no link to docs/page.md" <<<"nothing"
expect_fault "core/a.h exists now" <<<"$page"$'\n<!-- not here yet: core/a.h -->'
