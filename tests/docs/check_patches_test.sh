#!/usr/bin/env bash
# check_patches.py finds every way in which a patch does not fit, and nothing where it does.
set -euo pipefail
check=$(realpath "$(dirname "$0")/check_patches.py")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/docs/examples"
cat >"$root/docs/examples/a.patch" <<'PATCH'
diff --git a/list.txt b/list.txt
index 1..2 100644
--- a/list.txt
+++ b/list.txt
@@ -1 +1,2 @@
 one
+one and a half
@@ -3,2 +4,2 @@ two
 three
-four
+--- five
diff --git a/new.txt b/new.txt
new file mode 100644
--- /dev/null
+++ b/new.txt
@@ -0,0 +1 @@
+new
PATCH
expect_fault() {
  local said
  if said=$("$check" "$root" 2>&1); then echo "not found: $1" >&2; exit 1; fi
  [[ $said == *"$1"* ]] || { printf 'expected "%s" in:\n%s\n' "$1" "$said" >&2; exit 1; }
}
printf '%s\n' moved one two three four >"$root/list.txt"
"$check" "$root" >/dev/null || { echo "a patch that fits was refused" >&2; exit 1; }
printf '%s\n' one two three 4 >"$root/list.txt"
expect_fault "docs/examples/a.patch:8: list.txt has no such lines"
printf '%s\n' three four one >"$root/list.txt"
expect_fault "docs/examples/a.patch:8: list.txt has no such lines"
printf '%s\n' one two three four >"$root/list.txt"
touch "$root/new.txt"
expect_fault "docs/examples/a.patch:12: adds new.txt"
rm "$root/list.txt" "$root/new.txt"
expect_fault "docs/examples/a.patch:1: changes list.txt, which is not there"
