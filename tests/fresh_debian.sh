#!/usr/bin/env bash
# Proof that the scripts need nothing but Debian 12: makes a fresh minimal root with debootstrap,
# clones this checkout's HEAD into it and runs the given commands there (default: quickstart, then
# the tests), with a clean environment. Only this machine's settings for reaching apt's and pip's
# archives are taken over: sources, keys, proxies, certificates. Needs root and debootstrap.
#
#   tests/fresh_debian.sh [ROOT_DIR [COMMAND...]]
#
# ROOT_DIR must not exist or be empty, and is kept; without it, or with "", a temporary one is made
# and removed when all has passed. Takes about 5 GB and, with two cores, half an hour.
# shellcheck source-path=SCRIPTDIR/../scripts source=lib.sh
source "$(dirname "$0")/../scripts/lib.sh"

((EUID == 0)) || die "making a root file system and entering it needs root: sudo tests/fresh_debian.sh"
for tool in debootstrap git unshare apt-get; do
  command -v "$tool" >/dev/null || die "$tool is missing; apt-get install debootstrap git util-linux apt"
done

commands=("${@:2}")
((${#commands[@]})) || commands=(scripts/quickstart.sh scripts/test.sh)
if [[ -n ${1:-} ]]; then
  root=$(realpath -m -- "$1") temporary=no
  [[ ! -e $root || -z $(ls -A "$root") ]] || die "$root is not empty; name a new or an empty folder"
  mkdir -p "$root"
else
  root=$(mktemp -d "${TMPDIR:-/tmp}/fresh-debian.XXXXXX") temporary=yes
fi
chmod 755 "$root"  # apt fetches as a user of its own
trap '(($? == 0)) || warn "failed after $SECONDS s; the root is left for a look in $root"' EXIT

# --- apt: the mirror for debootstrap, then sources, keys and how to reach them
# $(...) below are indextargets' own fields.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' "Identifier: Packages" |
  awk '$1 == "bookworm" && $2 == "main" {print $3; exit}')
[[ -n $mirror ]] || die "this machine's apt has no source for Debian 12 (bookworm main) to take over;" \
  "add one to /etc/apt/sources.list.d and run apt-get update"

proxy=$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
step "Making a fresh Debian 12 in $root"
http_proxy=${http_proxy:-$proxy} https_proxy=${https_proxy:-$proxy} \
  debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
  die "debootstrap failed: $(tail -n 3 "$root.log") (all of it: $root.log)"
rm "$root.log"
step "Debian is there after $SECONDS s"

rm -f "$root"/etc/apt/sources.list
for path in sources.list sources.list.d trusted.gpg trusted.gpg.d keyrings auth.conf auth.conf.d; do
  if [[ -e /etc/apt/$path ]]; then cp -a "/etc/apt/$path" "$root/etc/apt/"; fi
done
cp -a /usr/share/keyrings/. "$root/usr/share/keyrings/"
apt-config dump | grep '^Acquire::' | grep -vE '^Acquire::(IndexTargets|Changelogs)' \
  >"$root/etc/apt/apt.conf.d/99taken-over"
cp /etc/resolv.conf /etc/hosts "$root/etc/"

# --- certificates: this machine's bundle under a name that no package of the new root overwrites
bundle=/etc/ssl/taken-over.crt
for file in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}" \
  /etc/ssl/certs/ca-certificates.crt; do
  [[ -n $file && -f $file ]] || continue
  mkdir -p "$root/etc/ssl"
  cp -L "$file" "$root$bundle"
  printf 'Acquire::https::CaInfo "%s";\n' "$bundle" >>"$root/etc/apt/apt.conf.d/99taken-over"
  break
done

# --- pip: its files merged into one, its variables, and folders of wheels if those are local
environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  LANG=C.UTF-8 TERM="${TERM:-dumb}")
while IFS= read -r name; do
  environment+=("$name=${!name}")
done < <(compgen -e | grep -E '^(PIP_[A-Z_]+|(http|https|all|no)_proxy|(HTTP|HTTPS|ALL|NO)_PROXY)$' |
  grep -vE '^PIP_(CONFIG_FILE|CACHE_DIR|CERT)$')
if [[ -e $root$bundle ]]; then
  environment+=(PIP_CERT="$bundle" SSL_CERT_FILE="$bundle" REQUESTS_CA_BUNDLE="$bundle")
fi
if python3 -m pip --version >/dev/null 2>&1; then
  python3 -m pip config list | sed -nE "/^:env:/d; s/^([^.]+)\.([^=]+)='(.*)'\$/[\1]\n\2 = \3/p" |
    sed 's/\\n/\n  /g' | grep -vE '^(cert|cache-dir) = ' >"$root/etc/pip.conf" || true
fi
for folder in ${PIP_FIND_LINKS:-} $(python3 -m pip config get global.find-links 2>/dev/null || true); do
  if [[ $folder == /* && -d $folder ]]; then
    mkdir -p "$root$folder"
    cp -aL "$folder/." "$root$folder/"
  fi
done

# --- the clone
[[ -z $(git status --porcelain) ]] || warn "uncommitted changes are not part of this check"
git clone --quiet --no-local . "$root/root/braid"
step "Cloned $(git rev-parse --short HEAD)"

# --- inside: a mount and process namespace of its own, so that nothing outlives the command
enter() {
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --pid --fork --kill-child bash -euc '
    root=$1
    mount -t proc proc "$root/proc"
    mount --rbind -o ro /sys "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in null zero full random urandom tty; do
      touch "$root/dev/$device"
      mount --bind "/dev/$device" "$root/dev/$device"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s pts/ptmx "$root/dev/ptmx"
    mkdir -m 1777 "$root/dev/shm" "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    cd "$root/root/braid"
    exec chroot "$root" env -i "${@:3}" bash -euc "cd /root/braid; $2" </dev/null
  ' enter "$root" "$1" "${environment[@]}"
}
for command in "${commands[@]}"; do
  step "In the fresh Debian: $command"
  before=$SECONDS
  enter "$command"
  times+=("$(printf '%5d s  %s' $((SECONDS - before)) "$command")")
done

step "All passed in $SECONDS s in a fresh Debian 12"
printf '%s\n' "${times[@]}"
if [[ $temporary == yes ]]; then rm -rf --one-file-system "$root"; fi
