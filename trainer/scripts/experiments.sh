#!/bin/sh
# Runs every experiment at the scale "tiny" and renews the tables that the repository holds: experiments.sh DATA, the folder of the
# data sets' folders. What is done is not done again; OUT=... is another folder for it.
set -eu
cd "$(dirname "$0")/../.."
data=$1
out=${OUT:-runs/experiments}
duet=${DUET:-target/release/duet}
"$duet" experiment all --data "$data" --scale tiny --out "$out"
tables=trainer/experiments/tables
mkdir -p $tables
for table in "$out"/tables/*-tiny.md; do
    { cat "$table"; echo "- measured: $(date +%Y-%m-%d), on $(nproc) processor cores with software Vulkan"; } > "$tables/$(basename "$table" -tiny.md).md"
done
cp "$out"/tables/*-tiny-*.svg "$out"/tables/*-tiny-*.png $tables/
echo "experiments: tables and pictures are in $tables, the page is $out/report.html"
