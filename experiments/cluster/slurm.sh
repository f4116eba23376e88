#!/usr/bin/env bash
# A run on several nodes of GPUs under Slurm, a process for each GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 experiments/cluster/slurm.sh --config=images --config.parallelism=fsdp
#
# Arguments are the launcher's. JAX finds the processes by Slurm's variables. A node is a slice: `fsdp` shards inside a
# node, and gradients are summed across nodes. SIGTERM comes two minutes before the time limit: the run saves, and the
# job goes back into the queue and goes on from there.
#SBATCH --job-name=gan_jax
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/%x-%j.log
set -euo pipefail

workdir=${WORKDIR:-runs/$SLURM_JOB_NAME-$SLURM_JOB_ID}
mkdir -p runs
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.cache/jax}

srun --kill-on-bad-exit=1 python launch.py --workdir="$workdir" "$@" &
running=$!
requeue() {
  kill -TERM "$running"
  wait "$running" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue TERM
wait "$running"
