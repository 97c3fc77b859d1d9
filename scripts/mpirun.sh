#!/usr/bin/env bash
# Starts braid on several ranks so that stopping is safe: Ctrl-C, SIGTERM and a hang-up make it save
# and stop; Ctrl-C again ends it at once. (mpirun itself gives its processes one second, then kills.)
#
#   scripts/mpirun.sh -n 4 braid train configs/quickstart.yaml --set parallel.expert=2
#   scripts/mpirun.sh --hostfile hosts -n 16 braid train run.yaml       several machines
#
# All arguments are mpirun's. Threads per rank: train.threads, or by default the machine's cores
# divided among its ranks. Ends with braid's exit status, or 128 + the signal that stopped it: 130.
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

# Counts the ranks of "-n 2 braid ... : -n 3 braid ...", and sees whether the options say where they
# go: on other machines, or how they are laid out on this one.
ranks=0 placed=0 in_program=0 skip=0 before=
for argument in "$@"; do
  if [[ $argument == : ]]; then
    in_program=0
  elif ((skip > 0)); then
    skip=$((skip - 1))
  elif ((!in_program)); then
    case $before in
      -n | -np | --n | --np | -c) [[ $argument =~ ^[0-9]+$ ]] && ranks=$((ranks + argument)) ;;
    esac
    case $argument in
      --host | -host | -H | --hostfile | -hostfile | --machinefile | -machinefile | --default-hostfile | \
        --map-by | -map-by | --rankfile | -rf | --oversubscribe | -oversubscribe | --nooversubscribe) placed=1 ;;
      --mca | -mca | --gmca | -gmca) skip=2 ;;
      -*) ;;
      *) [[ $before != -* ]] || command -v -- "$argument" >/dev/null && in_program=1 ;;
    esac
  fi
  before=$argument
done
[[ -n ${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}${PE_HOSTFILE:-} ]] && placed=1

# By itself mpirun refuses more ranks than this machine has cores; braid warns and goes on.
more=()
if ((!placed)); then
  more=(--oversubscribe)
  # Open MPI keeps the messages between ranks of one machine here, and fails where it is full.
  per_rank=$((5 << 20))
  room=$(df --output=avail -B1 /dev/shm 2>/dev/null | tail -n 1)
  if [[ -z ${OMPI_MCA_btl_vader_backing_directory:-} && $* != *vader_backing_directory* && $room =~ ^[0-9]+$ ]] &&
    ((ranks > 1 && room < ranks * per_rank)); then
    echo "warning: /dev/shm has room for $((room >> 20)) MiB; $ranks ranks take about" \
      "$((ranks * per_rank >> 20)) MiB there. In a container give it more (docker run --shm-size=1g)," \
      "or use another place: scripts/mpirun.sh --mca btl_vader_backing_directory /tmp ..." >&2
  fi
fi

# In a session of its own, so that a terminal's Ctrl-C and hang-up reach this script alone. mpirun
# ends when it cannot write; tee goes on reading when whoever read our output has gone (`| head`).
exec {output}> >(trap '' INT TERM HUP; exec tee -p /dev/null)
reader=$!
setsid mpirun --bind-to none ${more[@]+"${more[@]}"} "$@" >&"$output" {output}>&- &
job=$!
exec {output}>&-

stopped_by=
asked=0  # when, in microseconds
ended=   # whether it was to end at once
stop() {  # the first signal saves, and so do those of a hang-up or a scheduler that come again
  local now=${EPOCHREALTIME//[.,]/}
  if [[ -z $stopped_by ]]; then
    stopped_by=$1
    asked=$now
    echo "stopping: each rank finishes its step and saves; Ctrl-C again = at once, without saving" >&2
    kill -USR1 "$job" 2>/dev/null
  elif [[ $1 == INT || $1 == TERM ]] && ((now - asked >= 500000)); then  # some send a signal twice
    if [[ -z $ended ]]; then
      echo "ending at once, without saving" >&2
      # mpirun passes it on and braid leaves it to the system, which ends the ranks. Told to end,
      # mpirun would give them a second, enough to save in.
      kill -USR2 "$job" 2>/dev/null
      ended=1
    else
      kill -TERM "$job" 2>/dev/null
    fi
  fi
}
for signal in INT TERM HUP USR1; do
  # shellcheck disable=SC2064
  trap "stop $signal" "$signal"
done
trap '' PIPE
status=0
while kill -0 "$job" 2>/dev/null; do  # a signal ends `wait` before the job's end
  wait "$job"
  status=$?
done
wait "$reader" 2>/dev/null
# The ranks were stopped by our signals, and we by something else.
if [[ -n $stopped_by ]] && ((status == 128 + $(kill -l USR1) || status == 128 + $(kill -l USR2))); then
  status=$((128 + $(kill -l "$stopped_by")))
fi
exit "$status"
