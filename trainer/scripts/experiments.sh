#!/bin/sh
# Runs every experiment at the scale "tiny" and renews the tables that the repository holds: experiments.sh DATA, the folder of the
# data sets' folders. What is done is not done again; OUT=... is another folder for it, NAMES="table5 table6" are some of them,
# JOBS=... how many trainings run at a time (two, on two processor cores, get half as much done again as one).
set -eu
cd "$(dirname "$0")/../.."
data=$1
out=${OUT:-runs/experiments}
duet=${DUET:-target/release/duet}
# shellcheck disable=SC2086
"$duet" experiment ${NAMES:-all} --data "$data" --scale tiny --jobs "${JOBS:-2}" --out "$out"
folder=trainer/experiments
mkdir -p $folder/pictures
{
    echo "# Experiments, scale tiny"
    echo
    echo "By \`make experiments-tiny DATA=...\`, measured on $(date +%Y-%m-%d) with software Vulkan on $(nproc) processor cores, ${JOBS:-2} trainings at a time: small networks"
    echo "that have seen 200 to 500 batches, at 16×16 pixels, to show that every experiment runs and what it says; no figure for a paper. All of"
    echo "them take an hour here. Networks that have seen so little change whole pictures where a decision is to change; counterfactuals of trained"
    echo "ones are in the [README](../../README.md) of the project."
    seen=
    for name in $("$duet" experiment list | cut -d" " -f1); do
        for table in "$out"/tables/"$name"-tiny.md "$out"/tables/"$name"-*-tiny.md; do
            [ -f "$table" ] || continue
            stem=$(basename "$table" .md)
            # A name may begin as another one does.
            case " $seen " in *" $stem "*) continue ;; esac
            seen="$seen $stem"
            echo
            cat "$table"
            for picture in "$out"/tables/"$stem"-*.svg "$out"/tables/"$stem"-*.png; do
                [ -f "$picture" ] || continue
                cp "$picture" $folder/pictures/
                echo
                echo "![$stem](pictures/$(basename "$picture"))"
            done
        done
    done
} > $folder/README.md.new
mv $folder/README.md.new $folder/README.md
echo "experiments: the tables are in $folder/README.md, the page is $out/report.html"
