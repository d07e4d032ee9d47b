#!/bin/sh
# Shows `duet audit` what it looks for: plants a white square into a share of one class's images, trains a small model on them,
# says how often it goes by the square (its accuracy where every test image has it), and audits it. Results in runs/shortcuts.
# shortcuts.sh [CLASS [CORNER [SHARES]]]
set -eu
cd "$(dirname "$0")/../.."
class=${1:-Sandal}
corner=${2:-ne}
shares=${3:-0 0.1 0.3 0.6 1}
recipe=trainer/recipes/shortcut.toml
duet=target/release/duet
for share in $shares; do
    run=runs/shortcuts/$class-$corner-$share
    mkdir -p "$run"
    target/release/examples/plant_shortcut --halve --class "$class" --corner "$corner" --share "$share" --out "$run/data"
    $duet train $recipe --data "$run/data" --out "$run/model" --resume=auto
    model=$run/model/checkpoint.safetensors
    for data in "$run/data" "$run/data/marked"; do
        echo "$data:"
        $duet eval --model "$model" --data "$data" --loss-images 0 --images 1000
    done
    # 3: it found one.
    $duet audit --model "$model" --data "$run/data" --per-class 3 --steps 25 --out "$run/audit.png" || [ $? = 3 ]
done
