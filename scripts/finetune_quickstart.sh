#!/usr/bin/env bash
# From a fresh checkout to a tuned model that answers: sets up, builds the program, prepares a dictionary,
# pretrains a tiny model on it as plain text, writes that in the released layout with FP4 experts, trains
# LoRA adapters on conversations, and shows what changed: losses, an answer, the adapters in PEFT's layout,
# base and adapters merged. Run again, it continues where it stopped. Environment variables: see
# scripts/setup.sh.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"
export LC_ALL=C

base=runs/tiny-base quantized=runs/tiny-fp4 tuned=runs/tiny-lora
adapter=runs/tiny-lora-peft merged=runs/tiny-lora-merged
corpus=corpus/definitions
questions=("Define the noun: bookseller" "Define the verb: slobber" "Define the adjective: beery")

answers_of() {
  printf '%s\n/reset\n' "${questions[@]}" |
    build/braid chat "$@" --temperature 0 --max-tokens 80 2>/dev/null
}

scripts/setup.sh
finish_stage "set-up"

configure
step "Building the program"
ninja -C build -j "$(nproc)" braid
finish_stage "build"

scripts/prepare_corpus.sh definitions "$corpus"
finish_stage "corpus"

step "Pretraining on plain text (configs/finetune/tiny-base.yaml)"
train configs/finetune/tiny-base.yaml
[[ -d $quantized ]] || build/braid convert "$base" "$quantized" --to release --layout instruct
finish_stage "pretraining"

step "Tuning on conversations (configs/finetune/tiny-lora.yaml)"
train configs/finetune/tiny-lora.yaml
finish_stage "tuning"

step "Adapters as PEFT reads them, and merged into their base"
[[ -d $adapter ]] || build/braid convert "$tuned" "$adapter" --to peft
[[ -d $merged ]] || build/braid merge "$quantized" "$adapter" "$merged" --layout bf16

step "Words that were kept away from both: losses, and the share of answers with the right head word"
build/braid evaluate "$quantized" --adapter "$adapter" --data "$corpus/definitions.validation.jsonl" \
  --seq-len 256 --batch-size 16 --samples 300 --max-tokens 16 --json |
  python3 -c 'import json, sys
tuned = json.load(sys.stdin)
for name, model in (("base", tuned["base"]), ("base and adapters", tuned)):
    answers = model["answers"]
    print("  %-18s loss %.3f   %3d of %d head words" % (
        name, model["loss"], answers["same_first_word"], answers["references_with_a_word"]))'

step "Answers"
printf '  %s\n' "${questions[@]}"
step "... of the base"
answers_of "$quantized" | sed 's/^/  /'
step "... with its adapters"
answers_of "$quantized" --adapter "$adapter" | sed 's/^/  /'
finish_stage "results"

print_stages
