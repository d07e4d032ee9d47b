#!/bin/sh
# A GPU's first hour: is it right, how fast is it, how does PyTorch do beside it, and training for the rest of the time.
#
#   run.sh [--minutes N] [--out FOLDER] [--bin FOLDER] [--data FOLDER] [--tiny]
#
# --minutes  the whole run ends in this time, whatever happens (default 60; building comes before)
# --out      where results go (default: $OUT, else target/gpu-hour/results); a training run there goes on
# --bin      ready binaries `duet` and `suite` (pack.sh makes them), for machines without cargo
# --data     folder of the four Fashion-MNIST files
# --tiny     the same parts at tiny sizes, to try the script itself on a software device
#
# Each part has a share of the time. One that fails or is late is noted and the next begins. README.md beside this says
# what comes out.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
minutes=60
out=${OUT:-$root/target/gpu-hour/results}
bin=
data=
tiny=false
usage() {
    echo "run.sh: $1; usage: run.sh [--minutes N] [--out FOLDER] [--bin FOLDER] [--data FOLDER] [--tiny]" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case "$1" in
    --tiny) tiny=true ;;
    --minutes | --out | --bin | --data)
        [ $# -ge 2 ] || usage "$1 needs a value"
        case "$1" in
        --minutes) minutes=$2 ;;
        --out) out=$2 ;;
        --bin) bin=$2 ;;
        --data) data=$2 ;;
        esac
        shift
        ;;
    *) usage "unknown option $1" ;;
    esac
    shift
done
case "$minutes" in '' | *[!0-9]* | 0*) usage "--minutes must be a whole number from 1" ;; esac
command -v timeout >/dev/null 2>&1 || usage "there is no command \`timeout\` (coreutils)"

mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
if [ -z "$bin" ]; then
    bin=$root/target/gpu-hour/bin
    sh "$here/pack.sh" --bin "$bin" || exit 1
fi
bin=$(cd "$bin" && pwd) || exit 1
for file in duet suite root; do
    [ -e "$bin/$file" ] || usage "$bin holds no $file: pack.sh makes it"
done
if [ -z "$data" ]; then
    data=$root/data/fashion-mnist
    [ -d "$data" ] || data=/usr/share/datasets/fashion-mnist
fi

started=$(date +%s)
total=$((minutes * 60))
# The last seconds are for ending a late part and for the report.
reserve=12
grace=4
end=$((started + total - reserve))
logs=$out/logs
json=$out/json
rm -rf "$logs" "$json" "$out/parts.tsv"
mkdir -p "$logs" "$json"
: >"$out/parts.tsv"

say() { echo "gpu-hour: $*"; }
left() { echo $((end - $(date +%s))); }
# name, state, seconds, share in seconds, remark
note() {
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" >>"$out/parts.tsv"
    say "$1: $2 after $3 s${5:+ ($5)}"
}

# The table of measured kernels in the user's folder is no part of what is reported.
export XDG_CONFIG_HOME="$out/config"
# A bare machine may have the driver alone, without loader or with its description where no loader looks.
if [ -d "$root/lib" ] && ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    export LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && [ -e "$nvidia" ]; then
    export VK_DRIVER_FILES="$nvidia" VK_ICD_FILENAMES="$nvidia"
fi
# Tests find their fixtures by the path they were compiled with.
compiled=$(cat "$bin/root")
if [ ! -e "$compiled/tests/fixtures" ]; then
    mkdir -p "$(dirname "$compiled")" && ln -sfn "$root" "$compiled" || say "cannot make $compiled: tests will fail"
fi

child=
# Ends the run early, with the report of what there is.
stop() {
    trap - INT TERM HUP
    [ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null
    say "stopped"
    sh "$here/results.sh" "$out" "$started" "$minutes" "$tiny" "$root"
    exit 130
}
trap stop INT TERM HUP

# part NAME SHARE COMMAND...: runs a command for SHARE percent of the time at most. Its output is $json/NAME.json if it
# is JSON, and part of the log if it is not.
part() {
    name=$1 share=$(($2 * total / 100))
    # Of a short run a share may be too little to start anything in.
    [ "$share" -ge 8 ] || share=8
    shift 2
    limit=$(($(left) - grace))
    [ "$limit" -lt "$share" ] || limit=$share
    if [ "$limit" -lt 3 ]; then
        note "$name" skipped 0 "$share" "no time left"
        return 1
    fi
    begin=$(date +%s)
    # In the background, so that a signal ends the wait.
    timeout -k "$grace" "$limit" "$@" >"$logs/$name.out" 2>"$logs/$name.log" </dev/null &
    child=$!
    wait "$child"
    code=$?
    child=
    seconds=$(($(date +%s) - begin))
    case "$code" in
    0)
        # A filter that matches no test passes: that is a failure too.
        if grep -q '^running 0 tests' "$logs/$name.out" && ! grep -q '^running [1-9]' "$logs/$name.out"; then
            note "$name" failed "$seconds" "$share" "no test of that name"
            return 1
        fi
        note "$name" done "$seconds" "$share" "$(sed -n 's/^test result: ok\. \([0-9]* passed\).*/\1/p' "$logs/$name.out")"
        ;;
    124 | 137) note "$name" late "$seconds" "$share" "stopped after $limit s" ;;
    *) note "$name" failed "$seconds" "$share" "exit code $code: $(tail -n 1 "$logs/$name.log" | tr -d '\t' | cut -c1-160)" ;;
    esac
    case "$(head -c 1 "$logs/$name.out")" in
    '{')
        # Training prints a line of JSON now and then; the last one is the result.
        if [ "$code" -eq 0 ]; then
            case "$name" in
            train*) tail -n 1 "$logs/$name.out" >"$json/$name.json" ;;
            *) mv "$logs/$name.out" "$json/$name.json" ;;
            esac
        fi
        ;;
    *) cat "$logs/$name.out" >>"$logs/$name.log" && rm "$logs/$name.out" ;;
    esac
    return "$code"
}

if $tiny; then
    golden="golden::fixture schedules"
    families="matmul::families_agree self_test"
    models="$here/tiny.toml recipe 28x28-c32"
    batches="2 3"
    # A software device's time does not follow the settings: shares are wide, since most parts end long before.
    bench_share=9 profile_share=9
    bench_seconds=0.01 tune_seconds=0.001 torch_seconds=0.05
    tuned=$here/tiny.toml
    recipe=$here/tiny.toml larger=$here/tiny.toml
else
    golden=golden
    # Families of kernels, forward and gradients; the names of the modules that go through all of them.
    families="families convolution matmul attention"
    models="28x28-c32 32x32-c128 64x64-c128"
    batches="8 64"
    bench_share=5 profile_share=3
    bench_seconds=0.5 tune_seconds=0.1 torch_seconds=0.5
    tuned="$here/28x28-c32.toml $here/32x32-c128.toml"
    recipe=$root/trainer/recipes/fashion-mnist.toml larger=$here/28x28-c64.toml
fi
stem() { basename "$1" .toml; }

say "$minutes minutes, results in $out"
{
    uname -a
    sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | sort | uniq -c
    nvidia-smi 2>/dev/null || lspci 2>/dev/null | grep -i -E 'vga|3d|display'
    vulkaninfo --summary 2>/dev/null
} >"$logs/machine.txt"

part check 3 "$bin/duet" --json check
# shellcheck disable=SC2086
part golden 9 "$bin/suite" $golden
# shellcheck disable=SC2086
part families 8 "$bin/suite" $families
for batch in $batches; do
    for model in $models; do
        size=$(stem "$model")-b$batch
        part "bench-$size" "$bench_share" "$bin/duet" --json bench --steps-only --model "$model" --batch "$batch" \
            --seconds "$bench_seconds"
        part "profile-$size" "$profile_share" "$bin/duet" --json bench --roofline --model "$model" --batch "$batch" \
            --seconds "$bench_seconds"
    done
done
both=$(echo "$batches" | tr ' ' ',')
for model in $tuned; do
    part "tune-$(stem "$model")" 6 "$bin/duet" --json tune "$model" --batch "$both" --seconds "$tune_seconds" \
        --out "$out/tuned-$(stem "$model").json"
done
if python3 -c 'import torch' 2>/dev/null; then
    for batch in $batches; do
        part "torch-b$batch" 4 python3 "$here/torch_gpu.py" "$batch" "$torch_seconds"
    done
    # torch.compile takes its time: the last step is begun at the half of the share.
    for batch in $batches; do
        part "torch-compiled-b$batch" 5 python3 "$here/torch_gpu.py" "$batch" "$torch_seconds" $((total * 5 / 200))
    done
else
    note torch skipped 0 0 "no python3 with PyTorch here"
fi

# train NAME RECIPE SECONDS: saves before its time is over; what is there goes on.
train() {
    if [ "$3" -lt 6 ]; then
        note "$1" skipped 0 0 "no time left"
        return 1
    fi
    # Saving and a last test of accuracy take a while.
    spare=$(($3 / 5 > 45 ? 45 : $3 / 5))
    part "$1" 100 "$bin/duet" --json train "$2" --out "$out/$1" --data "$data" --resume=auto \
        --minutes "$(awk "BEGIN { print ($3 - $spare) / 60 }")"
}
if [ ! -e "$data/train-images-idx3-ubyte.gz" ] && [ ! -e "$data/train-images-idx3-ubyte" ]; then
    note train skipped 0 0 "no Fashion-MNIST in $data"
else
    rest=$(($(left) - grace))
    # In tiny runs nothing is learnt that needs longer.
    if $tiny && [ "$rest" -gt 24 ]; then rest=24; fi
    train train "$recipe" $((rest * 2 / 3))
    rest=$(($(left) - grace))
    if $tiny && [ "$rest" -gt 8 ]; then rest=8; fi
    train train-larger "$larger" "$rest"
fi

trap - INT TERM HUP
sh "$here/results.sh" "$out" "$started" "$minutes" "$tiny" "$root"
