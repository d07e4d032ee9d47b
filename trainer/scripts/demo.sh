#!/bin/sh
# Shows the program with the shipped model: classifies and explains the shipped test images and generates new ones, into
# the folder demo, and says how to open the web page.
set -eu
cd "$(dirname "$0")/../.."
duet=target/release/duet
model=web/demo/public/model.safetensors
images=web/demo/public/images
mkdir -p demo
echo "demo: what the model sees"
$duet classify --model $model --top 2 $images/*.png
echo "demo: what would have to change: one image of each class, moved to a class that looks like it"
sh trainer/scripts/pictures.sh demo
echo "demo: every image, moved to the class that comes second for it"
$duet explain --model $model --out demo/all.png --report demo/report.html $images/*.png >demo/explanations.txt
echo "demo: new images, a row per class"
$duet sample --model $model --steps 25 --count 4 --out demo/samples.png
cat <<END

demo: the files are in $PWD/demo
  report.html          open it in a browser: every image, its decision before and after, what changed
  counterfactuals.png  original, counterfactual and difference of ten images
  all.png              the same of all images; explanations.txt holds their probabilities
  samples.png          generated images
demo: \`make web\` builds the page and serves it at http://localhost:8080: explain your own images in the browser
END
