#!/usr/bin/env bash
# Makes a training corpus: English text out of Debian packages, without root and without installing
# them, or a synthetic one.
#
#   scripts/prepare_corpus.sh fortunes FOLDER   14 000 sayings, quotations and jokes, 2.4 MB
#   scripts/prepare_corpus.sh prose FOLDER      1 800 pages of technical prose, 13.7 MB
#   scripts/prepare_corpus.sh repeats FOLDER    lists of random words, each list repeated, 3.1 MB: what
#                                               follows can be known from 48 to 80 bytes before only
#   scripts/prepare_corpus.sh definitions FOLDER   conversations for fine-tuning: 150 000 questions for
#                                               the meaning of a word, with WordNet's answers; and
#                                               pairs of right and wrong answers; and the same dictionary
#                                               as a text to pretrain on, 20 MB, with a tokenizer of
#                                               1 024 ids made out of it
#
# FOLDER/NAME.txt holds the documents, parted by lines "%"; definitions.jsonl and definitions.pairs.jsonl the
# conversations, with one word in fifty apart in *.validation.jsonl and not in definitions.txt. FOLDER/SOURCES says which packages, in which versions
# and under which licences. Nothing is done when all are there. Equal packages give equal bytes.
# shellcheck source-path=SCRIPTDIR source=lib.sh
((${#} == 2)) || {
  sed -nE '2,/^[^#]/s/^# ?//p' "$0" | grep -v '^shellcheck' >&2
  exit 2
}
name=$1
out=$(realpath -m -- "$2")  # before lib.sh changes the folder
source "$(dirname "$0")/lib.sh"
export LC_ALL=C

# Lines of: package, folder in it, licence of the text. `files` selects within the folders.
case $name in
  fortunes)
    # Debian keeps offensive fortunes in a package of its own. Left out besides: drawings and two
    # collections of jokes about peoples and sexes.
    files=(! -name '*.*' ! -name ascii-art ! -name ethnic ! -name men-women)
    sources="fortunes-min usr/share/games/fortunes BSD-3-Clause
fortunes usr/share/games/fortunes BSD-3-Clause"
    ;;
  prose)
    files=(-name '*.html')
    sources="postgresql-doc-15 usr/share/doc/postgresql-doc-15/html PostgreSQL
sqlite3-doc usr/share/doc/sqlite3 public-domain
git-doc usr/share/doc/git-doc GPL-2
apache2-doc usr/share/doc/apache2-doc/manual/en Apache-2.0
exim4-doc-html usr/share/doc/exim4-doc-html/spec_html GPL-2+
developers-reference usr/share/developers-reference GPL-2+
debian-reference-en usr/share/debian-reference GPL-2+"
    ;;
  definitions)
    files=(-name 'index.*' -o -name 'data.*')
    sources="wordnet-base usr/share/wordnet WordNet"
    ;;
  repeats) ;;
  *) die "unknown corpus '$name': there are 'fortunes', 'prose', 'repeats' and 'definitions'" ;;
esac

text=$out/$name.txt
if [[ $name == definitions ]]; then
  text=$out/$name.jsonl
  if [[ -s $text && -s $out/tokenizer.json && -s $out/SOURCES ]]; then  # $text comes last
    step "$text is there: $(wc -l <"$text") conversations"
    exit 0
  fi
elif [[ -s $text && -s $out/SOURCES ]]; then
  step "$text is there: $(wc -c <"$text") bytes, $(($(grep -c '^%$' "$text") + 1)) documents"
  exit 0
fi

if [[ $name == repeats ]]; then
  command -v python3 >/dev/null || die "python3 is missing; scripts/setup.sh installs it"
  mkdir -p "$out"
  trap 'rm -f "$text.part"' EXIT
  documents=$(python3 scripts/repeats_text.py "$text.part")
  echo "$name.txt was made by scripts/repeats_text.py; nobody's rights are in it." >"$out/SOURCES"
  sync "$out/SOURCES" "$text.part"
  mv "$text.part" "$text"
  step "$text: $(wc -c <"$text") bytes, $documents documents"
  exit 0
fi

for tool in apt-get dpkg-deb python3; do
  command -v "$tool" >/dev/null ||
    die "$tool is missing. Corpora are made out of Debian packages, on Debian or Ubuntu; for other" \
      "text name your own files in the configuration."
done
mapfile -t packages < <(cut -d' ' -f1 <<<"$sources")

mkdir -p "$out"
work=$(mktemp -d "$out/.$name.XXXXXX")
trap 'rm -rf "$work"' EXIT

# All or nothing, so that a package list that has aged is noticed before anything is unpacked.
download() { (cd "$work" && apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root download "${packages[@]}"); }

step "Downloading ${packages[*]}"
if ! download 2>"$work/errors"; then
  ((EUID == 0)) ||
    die "apt-get could not download the packages ($(tail -n 1 "$work/errors")). If its package lists" \
      "are missing or old, run 'sudo apt-get update' and this again."
  step "Renewing apt's package lists"
  apt-get -qq update || die "'apt-get update' failed; see above"
  download || die "apt-get could not download the packages; see above"
fi

step "Extracting the text"
inputs=()
{
  echo "${text##*/} was made by scripts/prepare_corpus.sh from the text in these Debian packages."
  while read -r package folder licence; do
    deb=$(echo "$work/${package}"_*.deb)
    dpkg-deb -x "$deb" "$work/$package"
    mapfile -t found < <(find "$work/$package/$folder" -type f \( "${files[@]}" \) | sort)
    ((${#found[@]} > 0)) || die "$package holds no text in $folder; is this another release than Debian 12?"
    inputs+=("${found[@]}")
    echo "$package $(dpkg-deb -f "$deb" Version) $licence"
  done <<<"$sources"
  for package in "${packages[@]}"; do
    printf '\n==== %s: copyright and licences\n\n' "$package"
    cat "$work/$package/usr/share/doc/$package/copyright"
  done
} >"$work/SOURCES"
if [[ $name == definitions ]]; then
  mkdir "$work/made"
  documents=$(python3 scripts/definitions_text.py "$work/made" "${inputs[@]}")
  scripts/train_tokenizer.py "$work/made/tokenizer.json" 1024 "$work/made/$name.txt" >/dev/null
  mv "$work/made/$name.jsonl" "$work/text"
  sync "$work"/made/*
  mv "$work"/made/* "$out"
  kind=conversations
else
  documents=$(python3 scripts/corpus_text.py "$work/text" "${inputs[@]}")
fi

sync "$work/SOURCES" "$work/text"
mv "$work/SOURCES" "$out/SOURCES"
mv "$work/text" "$text"
step "$text: $(wc -c <"$text") bytes, $documents ${kind:-documents}"
