#!/usr/bin/env bash
# Checks what the *.md files of a checkout point at, and names every place that points at nothing:
#   - links: the file exists, and so does the heading behind "#"
#   - code spans that look like paths of the repository, `core/error.h` or `scripts/test.sh --fast`;
#     {h,cpp} stands for both, * for any characters, and a benchmark may be named without .cpp
#   - words of code blocks that begin with scripts/ or configs/
#   - README.md links to every page of docs/
# Files that a page describes before they exist are named in it by a comment, one a line:
#   <!-- not here yet: model/lora.{h,cpp} -->
#
#   tests/docs/check_links.sh [ROOT]     the checkout this file is in, by default
set -euo pipefail
export LC_ALL=C
cd "${1:-$(dirname "$0")/../..}"

# Code spans are checked when they begin with one of these.
folders='bench|checkpoint|cmake|commands|configs|core|data|docs|formats|inference|kernels|model|optim|parallel|plan|run|scripts|tests|train'
faults=0
fault() {
  printf '%s:%s: %s\n' "$1" "$2" "$3" >&2
  faults=$((faults + 1))
}

# "a.{h,cpp}" as two lines; * is left to exists().
expanded() {
  local path=$1 ending
  if [[ $path =~ ^([^{]*)\{([^}]*)\}(.*)$ ]]; then
    local head=${BASH_REMATCH[1]} tail=${BASH_REMATCH[3]}
    local -a endings
    IFS=, read -r -a endings <<<"${BASH_REMATCH[2]}"
    for ending in "${endings[@]}"; do printf '%s\n' "$head$ending$tail"; done
  else
    printf '%s\n' "$path"
  fi
}

exists() { [[ -e $1 ]] || { [[ $1 == *'*'* ]] && compgen -G "$1" >/dev/null; }; }

# Every file that a code span names, or its source (a benchmark's program).
named_files_exist() {
  local path
  while read -r path; do
    exists "$path" || exists "$path.cpp" || return 1
  done < <(expanded "$1")
}

# The anchors that GitHub makes of a page's headings.
anchors_of() {
  sed -nE '/^```/,/^```/d; s/^#+ +//p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

check_link() {  # PAGE LINE TARGET
  local page=$1 line=$2 target=$3 path anchor=
  case $target in http://* | https://* | mailto:*) return ;; esac
  if [[ $target == *'#'* ]]; then anchor=${target#*#}; fi
  path=${target%%#*}
  if [[ -z $path ]]; then path=$page; else path=$(dirname "$page")/$path; fi
  if [[ ! -e $path ]]; then
    fault "$page" "$line" \
      "the link ($target) points at no file: there is no $(realpath -m --relative-to=. -- "$path")"
  elif [[ -n $anchor ]] && ! anchors_of "$path" | grep -qxF -- "$anchor"; then
    fault "$page" "$line" \
      "the link ($target) points at no heading of $(realpath -m --relative-to=. -- "$path")"
  fi
}

check_path() {  # PAGE LINE PATH NOT_YET
  local page=$1 line=$2 path=$3
  case $path in *NAME* | *OP.* | *OP_*) return ;; esac  # placeholders
  if grep -qxF -- "$path" <<<"$4"; then return; fi
  named_files_exist "$path" || fault "$page" "$line" "there is no $path"
}

check_page() {
  local page=$1 text rest line=0 fence=no not_yet
  not_yet=$(sed -nE 's/^<!-- not here yet: (.*) -->$/\1/p' "$page")
  while IFS= read -r path; do
    if [[ -n $path ]] && named_files_exist "$path"; then
      fault "$page" "$(grep -nF -- "not here yet: $path" "$page" | cut -d: -f1)" \
        "$path exists now; remove the comment that says it does not"
    fi
  done <<<"$not_yet"
  while IFS= read -r text || [[ -n $text ]]; do
    line=$((line + 1))
    if [[ $text == '```'* ]]; then
      if [[ $fence == no ]]; then fence=yes; else fence=no; fi
      continue
    fi
    rest=$text
    if [[ $fence == yes ]]; then
      while [[ $rest =~ (^|[[:space:]])((scripts|configs)/[A-Za-z0-9_./*{},-]+) ]]; do
        check_path "$page" "$line" "${BASH_REMATCH[2]%[,.]}" "$not_yet"
        rest=${rest#*"${BASH_REMATCH[2]}"}
      done
      continue
    fi
    while [[ $rest =~ \]\(([^()[:space:]]+)\) ]]; do
      check_link "$page" "$line" "${BASH_REMATCH[1]}"
      rest=${rest#*"${BASH_REMATCH[0]}"}
    done
    rest=$text
    while [[ $rest =~ \`([^\`]+)\` ]]; do
      local span=${BASH_REMATCH[1]%% *} whole=${BASH_REMATCH[0]}
      if [[ $span =~ ^($folders)/[A-Za-z0-9_./*{},-]*$ ]]; then
        check_path "$page" "$line" "$span" "$not_yet"
      fi
      rest=${rest#*"$whole"}
    done
  done <"$page"
}

mapfile -t pages < <(find . \( -name .git -o -name 'build*' -o -name runs -o -name corpus \) -prune \
  -o -name '*.md' -print | sed 's#^\./##' | sort)
((${#pages[@]})) || { echo "there is no *.md in $PWD" >&2; exit 1; }
for page in "${pages[@]}"; do check_page "$page"; done
for page in docs/*.md; do
  if [[ -e $page ]] && ! grep -qF -- "]($page)" README.md; then
    fault README.md 1 "no link to $page; README.md links to every page of docs/"
  fi
done
if ((faults)); then
  echo "$faults faults in ${#pages[@]} pages" >&2
  exit 1
fi
echo "${#pages[@]} pages point at what exists"
