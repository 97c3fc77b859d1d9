#!/usr/bin/env bash
# Starts braid on several ranks so that stopping is safe: Ctrl-C and SIGTERM make it save and stop.
# (mpirun itself gives its processes one second after these, then kills them.)
#
#   scripts/mpirun.sh -n 4 braid train configs/quickstart.yaml --set parallel.expert=2
#   scripts/mpirun.sh --hostfile hosts -n 16 braid train run.yaml       several machines
#
# All arguments are mpirun's. Threads per rank: train.threads, or by default the machine's cores
# divided among its ranks. Ends with braid's exit status: 130 when it was stopped.
set -uo pipefail

if (($# == 0)) || [[ $1 == --help ]]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0"
  exit $(($# == 0 ? 2 : 0))
fi
command -v mpirun >/dev/null || {
  echo "error: there is no mpirun here; run scripts/setup.sh, which installs OpenMPI" >&2
  exit 1
}
if ((EUID == 0)); then  # as in a container
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# In a session of its own, so that a terminal's Ctrl-C reaches this script alone.
setsid mpirun --bind-to none "$@" &
job=$!
stop() {
  echo "stopping: each rank finishes its step and saves" >&2
  kill -USR1 "$job" 2>/dev/null
}
trap stop INT TERM USR1
status=0
while kill -0 "$job" 2>/dev/null; do  # a signal ends `wait` before the job's end
  wait "$job"
  status=$?
done
exit "$status"
