#!/usr/bin/env bash
# A Slurm job:
#   GPUS=4 tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options]
# CPUS_PER_TASK and SRUN_ARGS (several words) are passed on to srun.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT" \
        "[options of tools/test.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4
gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
here=$(cd "$(dirname "$0")" && pwd)

# shellcheck disable=SC2086
exec srun --partition="$partition" \
    --job-name="$job" \
    --gres="gpu:$per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$here/test.py" "$config" "$checkpoint" \
    --launcher slurm "$@"
