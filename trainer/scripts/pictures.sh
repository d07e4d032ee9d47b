#!/bin/sh
# Explains one shipped test image of each class, moved to a class that looks like it, into the folder given: the README's
# picture of counterfactuals.
set -eu
cd "$(dirname "$0")/../.."
images=web/demo/public/images
chosen=""
for number in 00019 00002 00001 00013 00006 00008 00004 00009 00018 00000; do chosen="$chosen $images/$number.png"; done
# shellcheck disable=SC2086
target/release/duet explain --model web/demo/public/model.safetensors --out "$1/counterfactuals.png" \
    --to "Shirt,Dress,Coat,Coat,Pullover,Sneaker,T-shirt/top,Ankle boot,Shirt,Sneaker" $chosen
