#!/usr/bin/env bash
# Runs inputs that people sent, each in a copy of its folder, and compares what the command does with what it must do.
#
#     trainer/tests/cases.sh FOLDER [NUMBER…]
#
# FOLDER holds a folder per case, its name beginning with the case's number. DUET is the command (by default the release
# build), MODEL the model (by default the shipped one). Prints a line per check; exits 1 where one fails.
set -u
folder=$(cd "${1:?usage: cases.sh FOLDER [NUMBER…]}" && pwd)
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
duet=${DUET:-$root/target/release/duet}
model=${MODEL:-$root/web/demo/public/model.safetensors}
work=$(mktemp -d)
# Nothing of these inputs stays among the user's own decoded pictures.
export DUET_CACHE="$work/pictures"
trap 'rm -rf "$work"' EXIT
failed=0 number='' out='' err='' code=0

# Runs a command; leaves its stdout, stderr and exit code in `out`, `err` and `code`.
try() {
  "$@" >"$work/out" 2>"$work/err"
  code=$?
  out=$(cat "$work/out") err=$(cat "$work/err")
}

check() { # NAME CONDITION…
  local name=$1
  shift
  if "$@"; then
    echo "ok   $number $name"
  else
    failed=1
    echo "FAIL $number $name (exit code $code)"
    printf '%s\n' "$out" "$err" | head -5 | sed 's/^/       /'
  fi
}

calm() { [ "$code" -le 1 ] && ! grep -qi 'panicked' <<<"$out$err"; }
refused() { calm && [ "$code" = 1 ] && grep -qiE -- "$1" <<<"$err"; }
answered() { calm && [ "$code" = 0 ] && grep -qE -- "$1" <<<"$out"; }
exits() { calm && [ "$code" = "$1" ]; }
says() { grep -qiE -- "$1" <<<"$out$err"; }
silent() { calm && [ -z "$err" ]; }
same() { cmp -s "$1" "$2"; }
json_lines() { # every line of stdout is JSON
  [ -n "$out" ] && ! grep -qvE '^[[:space:]]*(\{.*\}|\[.*\])[[:space:]]*$' <<<"$out"
}
# Share of a class in `out`, a line a picture, as a whole number of per cent.
shares() { grep -oE "$1 [0-9.]+ %" <<<"$out" | grep -oE '[0-9]+\.[0-9]' | cut -d. -f1; }
all_at_least() { # CLASS LEAST COUNT
  local list
  list=$(shares "$1")
  [ "$(grep -c . <<<"$list")" = "$3" ] && ! awk -v least="$2" '$1 < least { bad = 1 } END { exit !bad }' <<<"$list"
}
alike() { # CLASS: all within one per cent
  shares "$1" | sort -n | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last - first <= 1) }'
}

case_01() {
  try "$duet" classify --model "$model" upright.jpg orientation6.jpg orientation6.png
  check 'trousers are one picture' all_at_least Trouser 98 3
  check 'trousers agree' alike Trouser
  try "$duet" classify --model "$model" boot.jpg boot-orientation3.jpg
  check 'boots are one picture' all_at_least 'Ankle boot' 85 2
  check 'boots agree' alike 'Ankle boot'
}

case_02() {
  try "$duet" classify --model "$model" hidden-white.png hidden-black.png hidden-green.png
  check 'hidden colours do not matter' all_at_least Trouser 98 3
  check 'the three agree' alike Trouser
}

case_03() {
  try "$duet" classify --model "$model" whole.jpg
  check 'a whole one is answered' all_at_least Trouser 98 1
  for file in half.jpg quarter.jpg half.png; do
    try "$duet" classify --model "$model" "$file"
    check "$file is refused" refused "$file.*(end|cut|incomplete|short|truncated)"
  done
  try "$duet" classify --model "$model" no-end-marker.jpg
  check 'without its last marker: read or refused' calm
}

case_04() {
  local before=$SECONDS
  try bash -c 'ulimit -v 4000000; exec "$@"' _ /usr/bin/env "$duet" classify --model "$model" 30000x30000-1bit.png
  check 'refused with size and limit' refused '30,?000'
  check 'at once' [ $((SECONDS - before)) -le 3 ]
  check 'in little memory' little_memory
}
little_memory() { # peak of the command under 300 MB; what a driver maps beside it does not count
  local peak
  peak=$(/usr/bin/time -f %M "$duet" classify --model "$model" 30000x30000-1bit.png 2>&1 >/dev/null | tail -1)
  case $peak in
    *[!0-9]* | '') return 0 ;; # no GNU time here
    *) [ "$peak" -lt 307200 ] ;;
  esac
}

case_05() {
  try "$duet" classify --model "$model" dark-trouser-on-white.png dark-boot-on-white.png
  check 'a hint, or a word about the training data' says 'invert|unlike'
  try "$duet" classify --model "$model" --invert dark-trouser-on-white.png
  check 'inverted: a trouser' all_at_least Trouser 98 1
  try "$duet" classify --model "$model" --invert dark-boot-on-white.png
  check 'inverted: a boot' all_at_least 'Ankle boot' 85 1
  try "$duet" explain --model "$model" dark-trouser-on-white.png --invert --steps 10 --out strip.png
  check 'explained' exits 0
  try "$duet" classify --help
  check 'in --help' says '--invert'
}

case_06() {
  try bash -c 'set -o pipefail; "$0" classify --model "$1" picture.png | true' "$duet" "$model"
  check 'classify ends quietly' silent
  try bash -c 'set -o pipefail; "$0" --json info "$1" | true' "$duet" "$model"
  check 'info ends quietly' silent
  try bash -c 'set -o pipefail; "$0" train recipe.toml --out run --steps 40 | head -1' "$duet"
  check 'training does not panic' calm
  try "$duet" info run/checkpoint.safetensors
  check 'training left a checkpoint' exits 0
}

case_07() {
  [ -c /dev/full ] || return 0
  for json in '' --json; do
    try bash -c '"$0" $2 classify --model "$1" picture.png >/dev/full' "$duet" "$model" "$json"
    check "a full device is an error ${json}" refused 'cannot (be )?writ|cannot write'
  done
}

case_08() {
  for run in '--out run --steps 4' '--out run --steps 4 --resume' '--out other --steps 0'; do
    # shellcheck disable=SC2086
    try "$duet" --json train recipe.toml $run
    check "every line is JSON: $run" json_lines
  done
}

case_09() {
  try "$duet" train recipe.toml --out no-such-run --steps 2 --resume
  check 'resume of nothing is refused' refused 'no checkpoint'
  check 'and leaves nothing' [ ! -e no-such-run/checkpoint.safetensors ]
}

case_10() {
  "$duet" train recipe.toml --out run --steps 40 >one.txt 2>&1 &
  local one=$!
  "$duet" train recipe.toml --out run --steps 40 --seed 7 >two.txt 2>&1 &
  local two=$!
  wait $one
  local first=$?
  wait $two
  local second=$?
  out=$(cat one.txt) err=$(cat two.txt) code=$((first + second))
  check 'one of two runs is refused' [ $code = 1 ]
  check 'and says why' says 'another run'
  "$duet" train recipe.toml --out killed --steps 4000 >/dev/null 2>&1 &
  local long=$!
  sleep 2
  kill -9 $long
  wait $long 2>/dev/null
  try "$duet" train recipe.toml --out killed --steps 2 --resume=auto
  check 'a killed run frees the folder' exits 0
}

case_11() {
  for minutes in 1e300 inf; do
    try "$duet" train recipe.toml --out "run-$minutes" --steps 2 --minutes "$minutes"
    check "--minutes $minutes" calm
  done
  try "$duet" train recipe.toml --out c --steps 2 --minutes nan
  refused_by_name() { [ "$code" != 0 ] && [ "$code" != 101 ] && says minutes; }
  check '--minutes nan is refused' refused_by_name
}

case_12() {
  try "$duet" classify --model negative-variance.safetensors light.png
  check 'classify refuses it' refused 'variance'
  try "$duet" --json classify --model negative-variance.safetensors light.png
  check 'as JSON too' exits 1
  try "$duet" explain --model negative-variance.safetensors light.png --steps 4 --out strip.png
  check 'explain refuses it' refused 'variance'
}

case_13() {
  try "$duet" explain --model "$model" trouser.png --steps 10 --alpha 1e30 --out strip.png
  refused_by_name() { [ "$code" != 0 ] && [ "$code" != 101 ] && says alpha; }
  check 'alpha 1e30 is no explanation' refused_by_name
  try "$duet" explain --model "$model" trouser.png --steps 10 --alpha nan --out strip.png
  check 'alpha nan is refused' refused_by_name
  try "$duet" explain --model "$model" trouser.png --steps 10 --alpha 1e6 --out strip.png
  finite() { [ "$code" = 0 ] || refused 'NaN|finite|infinite'; }
  check 'the largest alpha gives an image or an error' finite
}

case_14() {
  try "$duet" --json eval --model "$model" --recipe recipe.toml --loss-images 0
  near_one() { awk -v text="$out" 'BEGIN { match(text, /"accuracy":[0-9.]+/); exit !(substr(text, RSTART + 11, RLENGTH - 11) >= 0.9) }'; }
  check 'accuracy by name' near_one
}

case_15() {
  try "$duet" train recipe.toml --out run --steps 2
  check 'trains' exits 0
  check '24 images are found' says '24 images'
}

case_16() {
  try "$duet" train recipe.toml --out run --steps 2
  check 'trains' exits 0
  check 'images and classes are counted' says '[0-9]+ images.*2 classes'
}

case_17() {
  try "$duet" train recipe.toml --out run --steps 2
  serves() { { [ "$code" = 0 ] && says 'val'; } || refused 'test'; }
  check 'val serves, or test is said to be missing' serves
}

case_18() {
  cp "$model" m.safetensors
  try "$duet" sample --model m.safetensors --out m.safetensors --steps 2 -n 1 --class Bag
  check 'sample is refused' exits 1
  check 'the model stays' same m.safetensors "$model"
  cp trouser.png a.png
  try "$duet" explain --model "$model" a.png --steps 10 --out a.png
  check 'explain is refused' exits 1
  check 'the picture stays' same a.png trouser.png
  try "$duet" explain --model "$model" trouser.png --steps 10 --out e.png --report e.png
  check 'two outputs in one are refused' exits 1
  check 'nothing is written' [ ! -e e.png ]
}

case_19() {
  for json in '' --json; do
    # shellcheck disable=SC2086
    try "$duet" $json classify --model "$model" 1.png 2.png 3.png 4.png
    check "the others are answered $json" grep -q 1.png <<<"$out"
    check "all of them $json" grep -q 4.png <<<"$out"
    check "the bad one is named $json" grep -q 3.png <<<"$err$out"
    check "exit code $json" exits 1
  done
}

case_20() {
  try "$duet" train recipe.toml --out run --steps 2
  check 'trains' exits 0
  try "$duet" sample --model run/checkpoint.safetensors --class 'cats, big' --steps 4 --alpha 1 --force --out s.png
  check 'sampled by name' exits 0
  try "$duet" explain --model run/checkpoint.safetensors 'data/cats, big/1.png' --to 'cats, big' --steps 4 --alpha 1 \
    --force --out e.png
  check 'explained by name' exits 0
}

case_21() {
  local before=$SECONDS
  try "$duet" explain --model "$model" trouser.png --steps 100 --out no-such-folder/strip.png
  check 'refused as a picture' refused 'no-such-folder'
  not_checkpoint() { ! says 'checkpoint no-such-folder'; }
  check 'not as a checkpoint' not_checkpoint
  check 'before the chain' [ $((SECONDS - before)) -le 3 ]
  try "$duet" explain --model "$model" trouser.png --steps 10 --out strip.jpg
  jpeg() { [ "$code" = 1 ] || [ "$(head -c 2 strip.jpg | od -An -tx1 | tr -d ' ')" = ffd8 ]; }
  check 'a .jpg is a JPEG or refused' jpeg
}

case_22() {
  try "$duet" --verbose classify --model "$model" trouser.png
  plain() { ! grep -q $'\e' <<<"$err"; }
  check 'no escape codes' plain
}

for path in "$folder"/[0-9][0-9]-*/; do
  number=$(basename "$path" | cut -c1-2)
  if [ $# -gt 0 ] && [[ " $* " != *" $number "* ]]; then continue; fi
  if ! declare -F "case_$number" >/dev/null; then
    echo "FAIL $number is not known to this script"
    failed=1
    continue
  fi
  cp -r "$path" "$work/$number"
  cd "$work/$number" || exit 1
  "case_$number"
done
exit $failed
