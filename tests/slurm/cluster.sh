#!/usr/bin/env bash
# A real Slurm on this machine alone, as root: one node with made-up CPUs, memory and four made-up GPUs that it hands out
# like real ones. For the tests, and to try `snakemake --profile slurm` without a cluster.
#
#   apt-get install slurm-wlm munge          (for accounting: slurmdbd mariadb-server, too)
#   tests/slurm/cluster.sh up DIRECTORY      daemons on loopback, everything they write in DIRECTORY; takes a second
#   tests/slurm/cluster.sh down DIRECTORY    jobs cancelled, daemons ended, nothing left but DIRECTORY
#
# ACCOUNTING=1 adds slurmdbd and its database, with an account `paper` that every job must have.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
[ $# = 2 ] || usage
what=$1
mkdir -p "$2"
root=$(cd "$2" && pwd)
export SLURM_CONF=$root/etc/slurm.conf
daemons=(slurmd slurmctld slurmdbd mariadbd munged)

pid_of() { cat "$root/run/$1.pid" 2> /dev/null; }

down() {
    local name pid
    timeout 10 scancel --full --user "$(id -un)" 2> /dev/null || true
    for name in "${daemons[@]}"; do
        pid=$(pid_of "$name") || continue
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2> /dev/null || true
    done
    for name in slurm.conf gres.conf slurmdbd.conf; do
        if [ "$(readlink "/etc/slurm/$name")" = "$root/etc/$name" ]; then rm "/etc/slurm/$name"; fi
    done
}

# Waits until a command succeeds, at most so many tenths of a second.
wait_for() {
    local tries=$1
    shift
    for _ in $(seq "$tries"); do
        if timeout 5 "$@" > /dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "cluster.sh: still fails: $* (logs in $root/log)" >&2
    return 1
}

# Ends this script if /etc/slurm has such a file of another Slurm; removes a link that a killed cluster.sh has left there.
free() {
    local place=/etc/slurm/$1 target other pid
    if [ ! -L "$place" ] && [ ! -e "$place" ]; then return; fi
    target=$(readlink "$place") || target=
    if [ "$target" = "$root/etc/$1" ]; then return; fi
    if [ -n "$target" ]; then
        other=${target%/etc/*}
        pid=$(cat "$other/run/slurmctld.pid" 2> /dev/null) || pid=none
        if [ ! -e "$target" ] || { [ -d "$other/gpus" ] && [ "$(cat "/proc/$pid/comm" 2> /dev/null)" != slurmctld ]; }; then
            rm "$place"
            return
        fi
        if [ -d "$other/gpus" ]; then echo "cluster.sh: one is up already; to end it: $0 down $other" >&2; exit 1; fi
    fi
    echo "cluster.sh: there is $place: this machine has a Slurm of its own" >&2
    exit 1
}

write_config() {
    local host accounting
    host=$(hostname -s)
    accounting="AccountingStorageType=accounting_storage/none"
    if [ "${ACCOUNTING:-0}" = 1 ]; then
        accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass=$root/run/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits"
    fi
    cat > "$root/etc/slurm.conf" << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$root/run/munge.sock
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.log
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SwitchType=switch/none
MpiDefault=none
# Nothing that needs more rights than a container has: no cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
$accounting
# Schedules at once instead of every half minute.
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
# Seconds between SIGTERM and SIGKILL, as Slurm has it by default.
KillWait=30
InactiveLimit=0
Waittime=0
# More CPUs and memory than there are.
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=64 Sockets=1 CoresPerSocket=64 ThreadsPerCore=1 RealMemory=1000000 Gres=gpu:h100:4 State=UNKNOWN
# The names that profiles/slurm has, and one that takes its place by force.
PartitionName=cpu Nodes=$host Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=10
PartitionName=gpu Nodes=$host MaxTime=3-00:00:00 State=UP PriorityTier=10
PartitionName=urgent Nodes=$host MaxTime=1-00:00:00 State=UP PriorityTier=100
END
    echo "NodeName=$host Name=gpu Type=h100 File=$root/gpus/gpu[0-3]" > "$root/etc/gres.conf"
    for number in 0 1 2 3; do
        [ -e "$root/gpus/gpu$number" ] || mknod "$root/gpus/gpu$number" c 1 3
    done
}

start_accounting() {
    mkdir -p "$root/db"
    mariadb-install-db --no-defaults --user=root --datadir="$root/db" --auth-root-authentication-method=normal \
        --skip-test-db > "$root/log/mariadb-install.log" 2>&1
    # shellcheck disable=SC2024
    mariadbd --no-defaults --user=root --datadir="$root/db" --socket="$root/run/db.sock" --port=13306 \
        --bind-address=127.0.0.1 --pid-file="$root/run/mariadbd.pid" --innodb-buffer-pool-size=64M \
        --innodb-lock-wait-timeout=900 < /dev/null > "$root/log/mariadbd.log" 2>&1 &
    wait_for 300 mariadb-admin --no-defaults --socket="$root/run/db.sock" ping
    mariadb --no-defaults --socket="$root/run/db.sock" -e "create database slurm_acct_db;
        create user 'slurm'@'127.0.0.1' identified by 'x'; grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';
        create user 'slurm'@'localhost' identified by 'x'; grant all on slurm_acct_db.* to 'slurm'@'localhost'"
    cat > "$root/etc/slurmdbd.conf" << END
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.sock
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=x
StorageLoc=slurm_acct_db
LogFile=$root/log/slurmdbd.log
PidFile=$root/run/slurmdbd.pid
END
    chmod 600 "$root/etc/slurmdbd.conf"
    ln -sfn "$root/etc/slurmdbd.conf" /etc/slurm/slurmdbd.conf
    slurmdbd
    wait_for 300 sacctmgr --noheader list cluster
    sacctmgr --immediate --quiet add cluster one
    sacctmgr --immediate --quiet add account paper cluster=one
    sacctmgr --immediate --quiet add user "$(id -un)" account=paper defaultaccount=paper
}

up() {
    if [ "$(id -u)" != 0 ]; then echo "cluster.sh: must be root" >&2; exit 1; fi
    for name in sbatch slurmctld slurmd munged; do
        command -v "$name" > /dev/null || { echo "cluster.sh: no $name: apt-get install slurm-wlm munge" >&2; exit 1; }
    done
    # Jobs lose SLURM_CONF on their way and look where Slurm always looks; a cluster's own file is not touched.
    for name in slurm.conf gres.conf slurmdbd.conf; do free "$name"; done
    mkdir -p "$root"/{etc,spool,state,log,run,gpus} /etc/slurm
    chmod 755 "$root" "$root/run"
    trap '[ $? = 0 ] || down' EXIT  # of what fails, also in a function: no daemon is left
    write_config
    ln -sfn "$root/etc/slurm.conf" /etc/slurm/slurm.conf
    ln -sfn "$root/etc/gres.conf" /etc/slurm/gres.conf
    (umask 377; head -c 1024 /dev/urandom > "$root/etc/munge.key.new"; mv -f "$root/etc/munge.key.new" "$root/etc/munge.key")
    munged --key-file="$root/etc/munge.key" --socket="$root/run/munge.sock" --pid-file="$root/run/munged.pid" \
        --log-file="$root/log/munged.log" --seed-file="$root/run/munge.seed" --force 2>> "$root/log/munged.log"
    if [ "${ACCOUNTING:-0}" = 1 ]; then start_accounting; fi
    slurmctld -c -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF" -N "$(hostname -s)"
    wait_for 300 sh -c 'sinfo --noheader --format %T | grep -q idle'
    sinfo --format "%P %a %l %D %T %G %c %m"
}

case $what in
    up) up ;;
    down) down ;;
    *) usage ;;
esac
