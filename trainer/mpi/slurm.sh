#!/bin/sh
# Trains over several nodes of a Slurm cluster, a process a GPU. What is to be changed stands at the top; then: sbatch slurm.sh
#SBATCH --job-name=duet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# Two minutes before the time is over, and when a more important job wants the nodes, the processes are warned: they finish the step,
# save once and end in order. The job is queued again then, and goes on from there with as many processes as it gets.
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu

RECIPE=${RECIPE:-recipe.toml}
OUT=${OUT:-runs/cluster}
DUET=${DUET:-duet}

# Each process takes the adapter of its number on the node. Where Slurm binds one GPU to each task, that is the only one it sees.
# `pmix` is what Open MPI was built with on most clusters (srun --mpi=list); without it: mpirun --map-by ppr:4:node -n 8 "$DUET" …
log=$OUT.jsonl
mkdir -p "$(dirname "$OUT")"
srun --mpi=pmix --kill-on-bad-exit=1 \
    "$DUET" train "$RECIPE" --out "$OUT" --resume=auto --json --tensorboard >>"$log"

# Ended by the warning, not at its end: once more.
case $(tail -n 1 "$log") in
*'"ended":"interrupted"'*) scontrol requeue "$SLURM_JOB_ID" ;;
esac
