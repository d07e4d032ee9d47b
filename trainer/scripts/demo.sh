#!/bin/sh
# Shows the program with the shipped model: classifies and explains official test images and generates new ones, into
# the folder demo, and says how to open the web page.
set -eu
cd "$(dirname "$0")/../.."
duet=target/release/duet
model=web/demo/public/model.safetensors
images=web/demo/public/images
mkdir -p demo
# One image of each class, moved to a class that looks like it.
chosen=""
for number in 00019 00002 00001 00013 00006 00008 00004 00009 00018 00000; do chosen="$chosen $images/$number.png"; done
echo "demo: what the model sees"
# shellcheck disable=SC2086
$duet classify --model $model --top 2 $chosen
echo "demo: what would have to change"
# shellcheck disable=SC2086
$duet explain --model $model --steps 100 --out demo/counterfactuals.png \
    --to "Shirt,Dress,Coat,Coat,Pullover,Sneaker,T-shirt/top,Ankle boot,Shirt,Sneaker" $chosen
echo "demo: new images, a row per class"
$duet sample --model $model --steps 50 --count 8 --out demo/samples.png
echo "demo: look at demo/counterfactuals.png and demo/samples.png; \`make web\` serves the page"
