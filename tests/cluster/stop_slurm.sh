#!/usr/bin/env bash
# Ends what start_slurm.sh started and nothing else, also where half of it is dead already.
#   --purge                wipe the state folder too
#   SLURM_TEST_ROOT        state folder (/var/lib/sparse-rnn-slurm)
set -euo pipefail
cd "$(dirname "$0")"
source ./slurm_common.sh

queue_is_empty() { [ -z "$(timeout 5 squeue -h)" ]; }
if alive slurmctld; then
  timeout 5 scancel --quiet --user=root || true
  within 8 "the queue is not empty" queue_is_empty 2> /dev/null || true # a job on a dead node never ends
fi
for daemon in slurmd.nodea slurmd.nodeb slurmctld slurmdbd mariadbd munged; do end "$daemon"; done

# What a job left where its slurmd had died: its steps run in our log folder, its tasks name our slurm.conf.
for proc in /proc/[0-9]*; do
  if [ "$(cat "$proc/comm" 2> /dev/null)" = slurmstepd ]; then
    [ "$(readlink "$proc/cwd")" = "$ROOT/log" ] || continue
  else
    grep -qzxF "SLURM_CONF=$SLURM_CONF" "$proc/environ" 2> /dev/null || continue
    grep -qz '^SLURMD_NODENAME=node[ab]$' "$proc/environ" 2> /dev/null || continue
  fi
  kill -KILL "${proc#/proc/}" 2> /dev/null || true
done
if [ "${1:-}" = --purge ] && [ -e "$MARKER" ]; then rm -rf "$ROOT"; fi
