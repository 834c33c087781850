#!/usr/bin/env bash
# Trains a tiny experiment with each launcher on this machine, and compares the result bit by bit with that of one rank.
#
#   scripts/try_launchers.sh [own mpirun torchrun restart slurm network]     (default: all)
#
# Launchers that are not installed are skipped. TORCHRUN= sets the command for torchrun ("python3 -m
# torch.distributed.run"). "slurm" starts the daemons of munge and Slurm for one node; "network" connects two network
# namespaces by a virtual cable and cuts it. Both need root.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly train=$PWD/build/release/bin/dalle-train
work=$(mktemp -d)
declare -A results
spaces=()  # network namespaces that were created
names=(own mpirun torchrun restart slurm network)
[ $# -gt 0 ] && names=("$@")

cleanup() {
  pkill -KILL -f -- "--run-dir $work/" 2>/dev/null || true
  local daemon space
  for daemon in slurmd slurmctld munged; do
    [ ! -f "$work/$daemon.pid" ] || kill "$(cat "$work/$daemon.pid")" 2>/dev/null || true
  done
  for space in "${spaces[@]}"; do ip netns delete "$space" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

readonly options=(--config "$PWD/tests/tools/tiny.yaml" --device cpu --set distributed.bitwise=true
  --set dvae.train.micro_batch_size=1 --set dalle.train.micro_batch_size=1)
export OMP_NUM_THREADS=1

# Hashes of the final state of both stages.
state() {
  (cd "$1/checkpoints" && sha256sum ./{dvae,dalle}/step-00000040/{weights,ema,first_moment,second_moment}.safetensors)
}

# Sets the result of part $1: whether the run in folder $2 has the state of the run on one rank.
compare() {
  if diff "$work/expected" <(state "$2" 2>&1) >"$work/$1.diff"; then results[$1]=pass; else results[$1]="FAIL: the bits differ from those of one rank"; fi
}

has() { command -v "$1" >/dev/null; }
is_root() { [ "$(id -u)" -eq 0 ]; }

try_own() {
  "$train" "${options[@]}" --run-dir "$work/own" --ranks 2 2>"$work/own.log" || return
  compare own "$work/own"
}

try_mpirun() {
  has mpirun || { results[mpirun]="skipped: apt-get install openmpi-bin"; return; }
  local root=()
  is_root && root=(--allow-run-as-root)
  mpirun "${root[@]}" --oversubscribe -n 2 "$train" "${options[@]}" --run-dir "$work/mpirun" 2>"$work/mpirun.log" || return
  compare mpirun "$work/mpirun"
}

read -ra torchrun <<<"${TORCHRUN:-torchrun}"

try_torchrun() {
  has "${torchrun[0]}" || { results[torchrun]="skipped: pip install torch"; return; }
  "${torchrun[@]}" --no-python --nproc-per-node 2 "$train" "${options[@]}" --run-dir "$work/torchrun" 2>"$work/torchrun.log" || return
  compare torchrun "$work/torchrun"
}

# A rank is killed; torchrun's agent restarts both, and they resume.
try_restart() {
  has "${torchrun[0]}" || { results[restart]="skipped: pip install torch"; return; }
  "${torchrun[@]}" --no-python --nproc-per-node 2 --max-restarts 2 --rdzv-backend c10d --rdzv-endpoint localhost:0 \
    "$train" "${options[@]}" --run-dir "$work/restart" 2>"$work/restart.log" &
  local agent=$!
  until [ -d "$work/restart/checkpoints/dvae/step-00000010" ]; do kill -0 $agent 2>/dev/null || return; sleep 0.05; done
  pkill -KILL -n -f -- "--run-dir $work/restart"
  wait $agent || return
  grep -q "resuming from step" "$work/restart/log.txt" || { results[restart]="FAIL: it did not resume"; return; }
  compare restart "$work/restart"
}

start_slurm() {
  mkdir -p "$work"/{munge,spool,state}
  dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 2>/dev/null
  chmod 711 "$work/munge"
  chmod 400 "$work/munge/key"
  chmod 711 "$work"
  munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed"
  cat >"$work/slurm.conf" <<CONF
ClusterName=dalle
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SchedulerType=sched/builtin
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
CONF
  export SLURM_CONF=$work/slurm.conf
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  for _ in $(seq 100); do [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && return 0; sleep 0.2; done
  return 1
}

try_slurm() {
  { has srun && has slurmctld && has munged; } || { results[slurm]="skipped: apt-get install slurm-wlm munge"; return; }
  is_root || { results[slurm]="skipped: needs root for the daemons"; return; }
  start_slurm || { results[slurm]="FAIL: Slurm did not start"; return; }
  srun -n 2 --oversubscribe "$train" "${options[@]}" --run-dir "$work/srun" 2>"$work/slurm.log" || return
  diff "$work/expected" <(state "$work/srun") >/dev/null || { results[slurm]="FAIL: the bits differ from those of one rank"; return; }
  # A batch job that gets the signal that precedes its time limit must save, be requeued, and finish.
  local job
  job=$(DALLE_TRAIN=$train sbatch --parsable --nodes=1 --ntasks-per-node=2 --gpus-per-node=0 --cpus-per-task=1 --time=10 \
    --output="$work/sbatch.log" scripts/slurm/train.sbatch "${options[@]:1}" --run-dir "$work/sbatch") || return
  for _ in $(seq 1200); do [ -d "$work/sbatch/checkpoints/dvae/step-00000010" ] && break; sleep 0.05; done
  scancel --signal=USR1 "$job"
  for _ in $(seq 600); do
    # Not in the same second in which it ended, or slurmd would confuse the new attempt with the ended one.
    [ "$(squeue -h -j "$job" -o %r 2>/dev/null)" = BeginTime ] && sleep 2 && scontrol update "JobId=$job" StartTime=now
    grep -q "^finished" "$work/sbatch.log" 2>/dev/null && break
    sleep 0.5
  done
  grep -q "requeued" "$work/sbatch.log" || { results[slurm]="FAIL: the stopped job was not requeued"; return; }
  compare slurm "$work/sbatch"
}

# Starts rank $1 of 2 in namespace $2.
start_in_namespace() {
  ip netns exec "$2" env RANK="$1" WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29555 \
    GLOO_SOCKET_IFNAME=cable "$train" "${options[@]}" --run-dir "$work/network" --set distributed.timeout_s=2 \
    2>"$work/network-$1.log" &
}

try_network() {
  is_root || { results[network]="skipped: needs root"; return; }
  local space
  for space in dalle-a dalle-b; do
    ip netns add $space 2>"$work/network.log" || { results[network]="FAIL: could not create a network namespace: $(cat "$work/network.log")"; return; }
    spaces+=("$space")
  done
  ip link add cable netns dalle-a type veth peer name cable netns dalle-b
  ip -n dalle-a address add 10.77.0.1/24 dev cable
  ip -n dalle-b address add 10.77.0.2/24 dev cable
  for space in dalle-a dalle-b; do ip -n $space link set cable up; ip -n $space link set lo up; done
  start_in_namespace 0 dalle-a
  local first=$!
  start_in_namespace 1 dalle-b
  local second=$!
  until [ -d "$work/network/checkpoints/dvae/step-00000010" ]; do kill -0 $first 2>/dev/null || return; sleep 0.02; done
  ip -n dalle-b link set cable down
  local cut=$SECONDS
  wait $first && { results[network]="FAIL: the run ended before the cable was cut"; return; }
  wait $second && return
  [ $((SECONDS - cut)) -le 13 ] || { results[network]="FAIL: it took $((SECONDS - cut)) s until both had exited"; return; }
  grep -q "rank 1 has sent no heartbeat" "$work/network-0.log" || { results[network]="FAIL: rank 1 is not named"; return; }
  grep -q "rank 0" "$work/network-1.log" || { results[network]="FAIL: rank 0 is not named"; return; }
  ip -n dalle-b link set cable up
  start_in_namespace 0 dalle-a
  first=$!
  start_in_namespace 1 dalle-b
  wait $first || return
  wait $! || return
  compare network "$work/network"
}

[ -x "$train" ] || { echo "try_launchers: error: $train does not exist; run scripts/build.sh" >&2; exit 1; }
"$train" "${options[@]}" --run-dir "$work/one" 2>"$work/one.log" || { cat "$work/one.log" >&2; exit 1; }
state "$work/one" >"$work/expected"
[ "$(wc -l <"$work/expected")" -eq 8 ] || { echo "try_launchers: error: the run on one rank has unexpected checkpoints" >&2; exit 1; }

failed=0
for name in "${names[@]}"; do
  begin=$SECONDS
  "try_$name" || true
  : "${results[$name]:=FAIL: a command failed}"
  printf '%-9s %4d s  %s\n' "$name" $((SECONDS - begin)) "${results[$name]}"
  if [[ ${results[$name]} == FAIL* ]]; then
    failed=1
    tail -n 5 "$work/$name"*.log >&2 || true
  fi
done
exit $failed
