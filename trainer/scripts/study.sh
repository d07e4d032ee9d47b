#!/bin/sh
# Measures what the step size of guidance does to a model, and what solvers make of the same noise in few steps, into the folder
# study, and copies the README's pictures from there: study.sh MODEL
set -eu
cd "$(dirname "$0")/../.."
pictures=web/demo/pictures
target/release/duet study --model "$1" --step-sizes 0,5,10,20,40,80 --per-class 10 --steps 25 --seed 1 --out study
cp study/precision_recall.svg study/probability.svg study/probability_by_class.svg $pictures/
cp study/samples_3_*.png $pictures/step_sizes.png
target/release/duet study --model "$1" --solvers ddim:25,dpm++:10,ddim:10,dpm++:5,dpm++sde:10 --per-class 20 --seeds 3 --seed 1 --out study
cp study/solvers.png $pictures/
echo "study: tables and pictures of every class are in $PWD/study (that of solvers is solvers.md); the README shows those copied to $pictures"
