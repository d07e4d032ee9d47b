#!/bin/sh
# Trains a small model for a few minutes on real images, then classifies, samples and explains with it.
# MINUTES (default 5) says how long to train; a second call goes on from where the first one stopped.
set -eu
cd "$(dirname "$0")/../.."
duet=target/release/duet
run=demo/run
mkdir -p demo
resume=""
[ ! -e "$run/checkpoint.safetensors" ] || resume="--resume"
echo "demo: training for ${MINUTES:-5} minutes into $run"
# shellcheck disable=SC2086
$duet train trainer/recipes/fashion-mnist.toml --out "$run" --minutes "${MINUTES:-5}" $resume
model="$run/checkpoint.safetensors"
$duet eval --model "$model" --images 1000 --loss-images 64
$duet export-images --recipe trainer/recipes/fashion-mnist.toml --count 10 --out demo/images
$duet classify --model "$model" demo/images/*.png
$duet sample --model "$model" --steps 50 --count 6 --out demo/samples.png
$duet explain --model "$model" --to Bag --out demo/explanation.png demo/images/*.png
echo "demo: look at demo/samples.png and demo/explanation.png"
