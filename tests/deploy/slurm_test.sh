#!/bin/sh
# slurm_test.sh ROOT: deploy/slurm.sh, with launchers that only say how they were called; its shell code by bash -n, and by
# ShellCheck where that is installed.
set -eu
script=$1/deploy/slurm.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bash -n "$script"
if command -v shellcheck > /dev/null; then shellcheck "$script"; fi

for launcher in mpirun srun; do
  # shellcheck disable=SC2016  # of the launcher's own shell
  printf '#!/bin/sh\nprintf "%s"\nprintf " [%%s]" "$@"\n' "$launcher" > "$work/$launcher"
  chmod +x "$work/$launcher"
done
PATH=$work:$PATH
export PATH
failed=0
expect() {  # WHAT WANTED GOT
  if [ "$2" != "$3" ]; then
    printf 'slurm_test.sh: %s\n  wanted %s\n  got    %s\n' "$1" "$2" "$3"
    failed=1
  fi
}

expect "mpirun starts a rank a task, with the words as they were given" \
  "mpirun [-n] [8] [--bind-to] [none] [liveavatar] [generate] [--device] [cuda] [--threads] [6] [--prompt] [a \"b\" c]" \
  "$(SLURM_NTASKS=8 SLURM_CPUS_PER_TASK=6 "$script" --prompt 'a "b" c')"
expect "srun does as well" \
  "srun [--mpi=pmix] [--ntasks=2] [--cpus-per-task=1] [--cpu-bind=none] [--kill-on-bad-exit=1] [/opt/l] [generate] \
[--device] [cpu] [--threads] [1] [--quiet]" \
  "$(SLURM_NTASKS=2 LAUNCHER=srun DEVICE=cpu LIVEAVATAR=/opt/l "$script" --quiet)"
code=0
(unset SLURM_NTASKS; "$script" --quiet) 2> "$work/said" || code=$?
expect "outside of a job it says so" "2 slurm.sh: not in a job of Slurm: start it with sbatch" "$code $(cat "$work/said")"
code=0
SLURM_NTASKS=2 LAUNCHER=rsh "$script" 2> "$work/said" || code=$?
expect "another launcher is refused" "2 slurm.sh: LAUNCHER=rsh: choose mpirun or srun" "$code $(cat "$work/said")"
expect "what sbatch reads stands before the first command" "0" \
  "$(sed -n '/^[^#]/,$p' "$script" | grep -c '^#SBATCH' || true)"
exit $failed
