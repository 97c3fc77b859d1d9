#!/usr/bin/env bash
# Says which C++ files are not as .clang-format (clang-format 14) would have them, and exits with 1 then.
#
#   scripts/check_format.sh          looks
#   scripts/check_format.sh --fix    formats them
#
# CLANG_FORMAT=PROGRAM overrides which clang-format runs. Exits with 77 where there is none (ctest then
# counts the test as skipped).
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

fix=no
case $* in
  "") ;;
  --fix) fix=yes ;;
  *) die "unknown arguments '$*'; expected none, or --fix" ;;
esac

# Other versions lay out some lines differently, so only this one is asked.
clang_format=${CLANG_FORMAT:-}
for candidate in clang-format-14 clang-format; do
  if [[ -z $clang_format ]] && [[ $("$candidate" --version 2>/dev/null) == *" 14."* ]]; then
    clang_format=$candidate
  fi
done
if [[ -z $clang_format ]]; then
  warn "clang-format 14 is not installed, so no format is checked (apt-get install clang-format-14)"
  exit 77
fi

mapfile -t files < <(find . \( -name build -o -name 'build-*' -o -name .git \) -prune -o \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' \) -print | sort)
if [[ $fix == yes ]]; then
  "$clang_format" -i "${files[@]}"
  exit
fi
mapfile -t wrong < <({ "$clang_format" --dry-run --ferror-limit=1 -Werror "${files[@]}" 2>&1 || true; } |
  sed -nE 's/^\.\/([^:]+):[0-9]+:[0-9]+: error: .*/\1/p' | sort -u)
if ((${#wrong[@]})); then
  printf 'not as .clang-format has it: %s\n' "${wrong[@]}" >&2
  die "${#wrong[@]} of ${#files[@]} files; scripts/check_format.sh --fix formats them"
fi
step "${#files[@]} files are as .clang-format has them"
