#!/bin/sh
# Weak scaling on one machine: as many images for each process whatever their number, over a link that is slowed down on purpose. Prints
# a line for each number of processes: images a second, bytes and seconds of the exchange in a step, the share of these in which the process
# computed. Where they share one device the images a second stay what they are; what to read is the exchange beside the time of a step.
#   sh trainer/mpi/weak.sh RECIPE [IMAGES] [STEPS] [SECONDS BYTES_A_SECOND] [OPTIONS of duet train]
set -eu
recipe=$1
images=${2:-8}
steps=${3:-12}
latency=${4:-0}
bandwidth=${5:-1e12}
duet=${DUET:-target/release/duet}
[ $# -lt 5 ] && shift $# || shift 5
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
echo "link: $latency s before each exchange, $bandwidth bytes a second; $images images for each process; $steps steps"
for count in ${COUNTS:-1 2 4}; do
    DUET_SIMULATED_LINK="$latency $bandwidth" mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$count" \
        "$duet" train "$recipe" --out "$out/$count" --steps "$steps" --batch $((images * count)) --plain \
        --set train.log_every="$steps" --set train.eval_every=0 --set train.sample_every=0 --set train.save_every="$steps" "$@" \
        >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
    printf '%s processes: ' "$count"
    grep "^step $steps of" "$out/log" | sed 's/; saved [^;]*//'
    head -1 "$out/$count/metrics.jsonl"
done
