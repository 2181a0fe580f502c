#!/bin/sh
# connbench on six nodes at the same moment, by Slurm:
#
#   sbatch slurm.sh --target lb.example:443 --allow-remote --strategy bind,range
#
# The words after the file's name are options of `connbench run`. Each node needs connbench; the folder from which sbatch
# is started is one that all nodes share.
#SBATCH --job-name=connbench
#SBATCH --nodes=6
#SBATCH --ntasks-per-node=1
set -eu
results=$PWD/connbench-$SLURM_JOB_ID
mkdir "$results"

# The first turn begins in 30 seconds; each further one a minute after the one before.
start=@$(($(date +%s) + 30))
srun sh -c 'results=$1; shift; exec connbench run "$@" -q -o "$results/$SLURMD_NODENAME.json.gz"' \
    sh "$results" "$@" --start-at "$start" --start-every 60s ||
    echo "a node's measurement is not sound, or not all of it is there: see above" >&2

connbench fleet merge "$results"/*.json.gz -o "$results/fleet.json.gz"
