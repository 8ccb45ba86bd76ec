#!/bin/bash
# One video on the GPUs of a Slurm job. What follows the script's name goes to `liveavatar generate`:
#
#   sbatch deploy/slurm.sh --ckpt_dir Wan2.2-S2V-14B --lora_path_dmd Live-Avatar \
#     --image me.jpg --audio speech.wav --prompt "A woman talks." --save_file me.mp4
#   sbatch --nodes=2 deploy/slurm.sh --ulysses_size 2 ...
#
# Four GPUs of one node take a denoising step each. Eight of two nodes are four stages of two GPUs, since a block has
# four steps: the two of a stage are on one node, and only blocks (2 MB) cross the network.
#
# The model's files, and the program, are at the same paths on every node. The portrait and the voice are read, and the
# video is written, by rank 0, on the first node.
#SBATCH --job-name=liveavatar
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
# Not --gpus-per-task: rank 1 of a node takes its second GPU (cuda:1), so every rank has to see all of the node's.

# Where they are not set from outside (sbatch --export=ALL,LAUNCHER=srun ...):
#   LIVEAVATAR  the program; lib/liveavatar/mpi.so of the same installation is beside it
#   LAUNCHER    mpirun, or srun where `srun --mpi=list` names pmix
#   DEVICE      cuda: the GPU with the rank's number on its node; cpu: without --gpus-per-node
LIVEAVATAR=${LIVEAVATAR:-liveavatar}
LAUNCHER=${LAUNCHER:-mpirun}
DEVICE=${DEVICE:-cuda}

set -eu
if [ -z "${SLURM_NTASKS:-}" ]; then
  echo "slurm.sh: not in a job of Slurm: start it with sbatch" >&2
  exit 2
fi
command=("$LIVEAVATAR" generate --device "$DEVICE" --threads "${SLURM_CPUS_PER_TASK:-1}" "$@")

# A rank has threads of its own, so none is bound to one core, which is what mpirun does by itself.
case $LAUNCHER in
  mpirun)
    exec mpirun -n "$SLURM_NTASKS" --bind-to none "${command[@]}"
    ;;
  srun)
    exec srun --mpi=pmix --ntasks="$SLURM_NTASKS" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --cpu-bind=none \
      --kill-on-bad-exit=1 "${command[@]}"
    ;;
  *)
    echo "slurm.sh: LAUNCHER=$LAUNCHER: choose mpirun or srun" >&2
    exit 2
    ;;
esac
