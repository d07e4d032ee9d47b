#!/bin/sh
# Measures all that the shipped model's card and the README say of it: card.sh MODEL [JUDGE]. Figures go to standard output,
# the pictures of samples and the frontier's tables into the folder card. DUET_DATA may name a folder with usps/ and cifar10/
# for the table of pictures unlike the data. About twenty minutes on a software device with two cores.
set -eu
cd "$(dirname "$0")/../.."
model=$1
judge=${2:-}
duet=target/release/duet
mkdir -p card

echo "== file"
sha256sum "$model"
"$duet" info "$model"
echo "== accuracy and noise error"
"$duet" eval --model "$model" --images 10000 --loss-images 256
echo "== counterfactuals by the paper's chain, the next class as target"
"$duet" eval --model "$model" --images 100 --loss-images 0 --counterfactuals 50 --to next --method paper --steps 50
echo "== samples"
"$duet" sample --model "$model" --count 8 --steps 50 --alpha 20 --out card/samples.png
if [ -n "$judge" ]; then
    echo "== local counterfactuals, judged"
    "$duet" eval --model "$model" --images 100 --loss-images 0 --counterfactuals 30 --skip 0.1 --judge "$judge" --against paper
    echo "== the judge's probability against the change"
    "$duet" frontier --model "$model" --judge "$judge" --skip 0.1 --per-class 10 --out card/frontier
fi
echo "== pictures unlike the data"
set -- --model "$model"
for set in usps cifar10; do
    if [ -d "${DUET_DATA:-}/$set" ]; then set -- "$@" --also "$set=$DUET_DATA/$set"; fi
done
target/release/examples/unlike_pictures "$@"
