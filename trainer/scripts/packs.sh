#!/bin/sh
# Trains the recipes of four data sets on what is at hand of them and prints a table: packs.sh DATA TIME, where DATA holds the
# folders usps, cifar10, malaria and bccd-tiles, and TIME is what each run may take ("8m"). Runs go on where they were stopped.
set -eu
cd "$(dirname "$0")/../.."
data=$1
time=$2
duet=${DUET:-target/release/duet}
out=runs/packs
mkdir -p $out
for set in usps cifar10 malaria bccd-tiles; do
    [ -d "$data/$set" ] || { echo "packs: $data/$set is not there" >&2; exit 1; }
done
echo "| data | training, test images | split | steps in $time | right on the test images |"
echo "|---|---|---|---|---|"
while read -r set recipe split; do
    $duet train trainer/recipes/$recipe.toml --data "$data/$set" --out $out/$set --resume=auto --max-time "$time" --plain \
        > $out/$set.txt 2>&1
    $duet eval --model $out/$set/checkpoint.safetensors --recipe trainer/recipes/$recipe.toml --data "$data/$set" \
        --loss-images 0 > $out/$set.eval.txt 2>&1
    # "975 images of 3 labels (…), 212 of them to test on, …"
    counts=$(sed -n 's/^data: \([0-9]*\) images.*), \([0-9]*\) of them to test on.*/\1 \2/p' $out/$set.txt | head -1 |
        awk '{ print $1 - $2 ", " $2 }')
    steps=$(tail -1 $out/$set/metrics.jsonl | sed -n 's/.*"step":\([0-9]*\).*/\1/p')
    right=$(sed -n 's/^accuracy //p' $out/$set.eval.txt)
    echo "| $set | $counts | $split | $steps | $right |"
done <<END
usps usps official
cifar10 cifar10 official, a part of it
malaria malaria by patient, a part of it
bccd-tiles blood-cells by picture
END
