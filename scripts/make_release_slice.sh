#!/usr/bin/env bash
# Checkpoints with Flash's true dimensions and random weights, in the release's exact layout.
#
#   scripts/make_release_slice.sh layers FOLDER   two full-width layers without the MTP block, 9.3 GB
#   scripts/make_release_slice.sh whole FOLDER    all 43 layers and the MTP block, 160 GB of which the
#                                                 experts of four layers and all else hold bytes (24 GB)
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

usage="usage: scripts/make_release_slice.sh layers|whole FOLDER"
[[ $# -eq 2 ]] || die "$usage"
[[ -x build/braid ]] || die "build/braid is missing; scripts/quickstart.sh builds it"
case $1 in
  layers) build/braid synthesize "$2" --model configs/models/flash.yaml --layers 2,3 --no-mtp ;;
  whole) build/braid synthesize "$2" --model configs/models/flash.yaml --expert-bytes 0,2,3,4 ;;
  *) die "$usage" ;;
esac
