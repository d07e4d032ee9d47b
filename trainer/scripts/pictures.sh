#!/bin/sh
# Explains one shipped test image of each class, moved to a class that looks like it, and generates rows from one class to another,
# into the folder given: two pictures of the README.
set -eu
cd "$(dirname "$0")/../.."
images=web/demo/public/images
chosen=""
for number in 00019 00002 00001 00013 00006 00008 00004 00009 00018 00000; do chosen="$chosen $images/$number.png"; done
# shellcheck disable=SC2086
target/release/duet explain --model web/demo/public/model.safetensors --out "$1/counterfactuals.png" \
    --to "Shirt,Dress,Coat,Coat,Pullover,Sneaker,T-shirt/top,Ankle boot,Shirt,Sneaker" $chosen
target/release/duet sample --model web/demo/public/model.safetensors --out "$1/between.png" --eta 0 --steps 25 --count 9 --seed 1 \
    --between "Sneaker,Ankle boot" --between "T-shirt/top,Dress" --between "Pullover,Bag" --between "Trouser,Dress"
