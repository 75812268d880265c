#!/usr/bin/env bash
# Brings up a SLURM cluster of two pretended nodes on loopback, from Debian's packages and without systemd, for the tests.
# Run it as root, as often as wanted: what runs already stays. Everything it writes is in $SLURM_TEST_ROOT.
#   SLURM_TEST_ROOT        state folder (/var/lib/sparse-rnn-slurm); slurm.conf is in its etc/
#   SLURM_TEST_ACCOUNTING  1: with slurmdbd, sacct answers; 0: without (1)
#   SLURM_TEST_CPUS        CPUs each node pretends to have (4)
#   SLURM_TEST_GPUS        GPUs each node pretends to have (0)
#   SPARSE_RNN_SLURM_TEST  "anyway": also on a machine that has a SLURM of its own or is not a container
set -euo pipefail
cd "$(dirname "$0")"
source ./slurm_common.sh
GPUS=${SLURM_TEST_GPUS:-0}
CPUS=${SLURM_TEST_CPUS:-4}
CTLD_PORT=26817 NODE_PORT=26818 DBD_PORT=26820 # nodea listens on NODE_PORT, nodeb on the next one; none is SLURM's default

refuse() {
  echo "error: $1" >&2
  exit 3
}

# 1. may it run here? -----------------------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] || refuse "the test cluster needs root; run it as root in a container that can be thrown away."
if [ "${SPARSE_RNN_SLURM_TEST:-}" != anyway ]; then
  overrule="run it in a container, or set SPARSE_RNN_SLURM_TEST=anyway."
  for found in /etc/slurm/slurm.conf /etc/slurm-llnl/slurm.conf /run/slurm/conf/slurm.conf; do
    [ ! -e "$found" ] || refuse "this machine has a SLURM of its own ($found); $overrule"
  done
  [ "$GIVEN_CONF" = "$SLURM_CONF" ] || refuse "SLURM_CONF names another cluster ($GIVEN_CONF); unset it, $overrule"
  [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ "${CI:-}" = true ] || systemd-detect-virt -cq 2> /dev/null ||
    refuse "this machine is not a container and the test cluster installs packages; $overrule"
fi
[ -e "$MARKER" ] || [ -z "$(ls -A "$ROOT" 2> /dev/null)" ] ||
  refuse "$ROOT holds other things than a test cluster; set SLURM_TEST_ROOT to an empty folder."

# 2. packages: installed without starting a service -------------------------------------------------------------------
missing=()
for package in munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmdbd slurm-wlm-mysql-plugin mariadb-server; do
  dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get > /dev/null || refuse "the test cluster needs Debian's packages ${missing[*]}; use a Debian 12 container."
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
mkdir -p "$ROOT"/{etc,log,run,munge,mysql,gpu,state,spool/nodea,spool/nodeb}
chmod 755 "$ROOT"
touch "$MARKER"

# 3. munge, with a key and a socket of its own -------------------------------------------------------------------------
if ! alive munged; then
  chmod 700 "$ROOT/munge"
  [ -s "$ROOT/munge/key" ] || (umask 077 && head -c 128 /dev/urandom > "$ROOT/munge/key")
  rm -f "$ROOT"/run/munge.socket*
  munged --key-file="$ROOT/munge/key" --seed-file="$ROOT/munge/seed" --socket="$ROOT/run/munge.socket" \
    --pid-file="$ROOT/run/munged.pid" --log-file="$ROOT/munge/munged.log"
  within 10 "munged does not answer" munge -n -S "$ROOT/run/munge.socket"
fi

# 4. mariadb and slurmdbd -----------------------------------------------------------------------------------------------
if [ "$ACCOUNTING" = 1 ]; then
  export MYSQL_UNIX_PORT=$ROOT/mysql/socket # for the clients and for slurmdbd: no port, no socket in a shared folder
  if ! alive mariadbd; then
    chown mysql: "$ROOT/mysql"
    [ -d "$ROOT/mysql/data/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$ROOT/mysql/data" \
      --skip-test-db > "$ROOT/log/mariadb-install.log" 2>&1
    setsid mariadbd --no-defaults --user=mysql --datadir="$ROOT/mysql/data" --socket="$MYSQL_UNIX_PORT" --skip-networking \
      --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
      --innodb-flush-log-at-trx-commit=0 > "$ROOT/log/mariadbd.log" 2>&1 < /dev/null &
    echo $! > "$ROOT/run/mariadbd.pid"
    within 30 "mariadbd does not answer" mariadb-admin --no-defaults ping
    mariadb --no-defaults -e "create database if not exists slurm; grant all on slurm.* to slurm@localhost identified by 'slurm'"
  fi
  (umask 077 && cat > "$ROOT/etc/slurmdbd.conf") << END
AuthType=auth/munge
AuthInfo=socket=$ROOT/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=root
LogFile=$ROOT/log/slurmdbd.log
PidFile=$ROOT/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
END
  accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$ROOT/run/munge.socket
AccountingStorageEnforce=limits
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5"
fi

# 5. slurm.conf and gres.conf ---------------------------------------------------------------------------------------------
host=$(uname -n)
host=${host%%.*}
gres="" loopback=""
rm -f "$ROOT/etc/gres.conf"
if [ "$GPUS" -gt 0 ]; then
  for n in $(seq 0 $((GPUS - 1))); do
    ln -sf /dev/null "$ROOT/gpu/nvidia$n" # SLURM gives a job a GPU's number only if its file is a device
    echo "NodeName=nodea,nodeb Name=gpu File=$ROOT/gpu/nvidia$n" >> "$ROOT/etc/gres.conf"
  done
  gres=" Gres=gpu:$GPUS"
fi
# The daemons bind to what the machine's name resolves to, or to every address: in many containers only the latter works.
case $(getent ahostsv4 "$host") in 127.*) loopback="CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" ;; esac
cat > "$SLURM_CONF.new" << END
ClusterName=sparsernn
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$CTLD_PORT
$loopback
AuthType=auth/munge
# A requeued job waits for its credential to expire: 121 s with SLURM's default, 6 s with the least it allows.
AuthInfo=socket=$ROOT/run/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd.%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd.%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# A dead node is noticed after about this many seconds, and is used again as soon as it answers.
SlurmdTimeout=10
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobRequeue=1
MaxArraySize=1001
MinJobAge=30
KillWait=5
OverTimeLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
${accounting:-AccountingStorageType=accounting_storage/none}
${gres:+GresTypes=gpu}
NodeName=DEFAULT CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=64000$gres
NodeName=nodea NodeHostname=$host NodeAddr=127.0.0.1 Port=$NODE_PORT
NodeName=nodeb NodeHostname=$host NodeAddr=127.0.0.1 Port=$((NODE_PORT + 1))
PartitionName=main Nodes=nodea,nodeb Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=nodea,nodeb PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
END
if ! cmp -s "$SLURM_CONF.new" "$SLURM_CONF"; then # a reconfigure would not be enough
  for daemon in slurmd.nodea slurmd.nodeb slurmctld; do end "$daemon"; done
fi
mv "$SLURM_CONF.new" "$SLURM_CONF"

# 6. SLURM's daemons ----------------------------------------------------------------------------------------------------
if [ "$ACCOUNTING" = 1 ] && ! alive slurmdbd; then
  quietly slurmdbd
  within 20 "slurmdbd does not answer" timeout 3 sacctmgr -n show cluster
fi
if [ "$ACCOUNTING" = 1 ] && [ -z "$(sacctmgr -nP show cluster sparsernn)" ]; then sacctmgr -iQ add cluster sparsernn > /dev/null; fi
alive slurmctld || quietly slurmctld
within 20 "slurmctld does not answer" timeout 3 scontrol show partition
for node in nodea nodeb; do
  alive "slurmd.$node" || quietly slurmd -N "$node"
done
ready() { [ "$(timeout 3 sinfo -hN -p main -t idle,mixed,allocated,completing -o %N | wc -l)" = 2 ]; }
within 20 "the nodes do not come up" ready
echo "The test cluster is up; use it with: export SLURM_CONF=$SLURM_CONF"
