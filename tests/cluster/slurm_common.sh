# shellcheck shell=bash disable=SC2034
# What start_slurm.sh and stop_slurm.sh share.
ROOT=${SLURM_TEST_ROOT:-/var/lib/sparse-rnn-slurm}
MARKER=$ROOT/.sparse-rnn-slurm # the folder was made by start_slurm.sh: stop_slurm.sh may delete it
ACCOUNTING=${SLURM_TEST_ACCOUNTING:-1}
GIVEN_CONF=${SLURM_CONF:-$ROOT/etc/slurm.conf}
export SLURM_CONF=$ROOT/etc/slurm.conf

pid_of() { cat "$ROOT/run/$1.pid" 2> /dev/null || true; }

# Does this process run under this name? The number alone may have gone to another one; a zombie has ended.
runs() {
  local name state
  [ -n "$1" ] && { read -r _ name state _ < "/proc/$1/stat"; } 2> /dev/null && [ "$name" = "($2)" ] && [ "$state" != Z ]
}

alive() { runs "$(pid_of "$1")" "${1%%.*}"; } # the daemon of this pid file

within() { # seconds, what is wrong after them, command
  local seconds=$1 wrong=$2 last=$((SECONDS + $1))
  shift 2
  while [ $SECONDS -le $last ]; do
    if "$@" > /dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "error: $wrong after $seconds s; see $ROOT/log." >&2
  return 1
}

quietly() { "$@" > /dev/null 2>&1 < /dev/null; }

end() { # a daemon, by its pid file, which many delete before they are gone
  local pid name=${1%%.*}
  pid=$(pid_of "$1")
  if runs "$pid" "$name"; then
    kill "$pid"
    for _ in $(seq 100); do
      runs "$pid" "$name" || break
      sleep 0.1
    done
    if runs "$pid" "$name"; then kill -KILL "$pid"; fi
  fi
  rm -f "$ROOT/run/$1.pid"
}
