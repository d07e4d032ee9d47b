#!/bin/sh
# Measures Duet and its peers on this machine, one after the other, and writes results.md and results.json here.
#
#   run.sh [torch] [duet] [burn] [burn-late] [meganeura] [duet-web] [ort-web]
#
# Without arguments all of them but burn-late and meganeura; with some, those are measured again and the others kept (the report then says so). Other
# versions: TORCH_VERSION, BURN_VERSION, MEGANEURA_VERSION, ORT_VERSION; BURN_FLAGS are flags of cargo (--no-default-features takes burn's
# fusion away, --features vulkan takes SPIR-V). REPEATS counts the calls that are timed. What is built and downloaded goes
# to PEERS_DIR, by default target/peers.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${PEERS_DIR:-$root/target/peers}
torch=${TORCH_VERSION:-2.15.0}
burn=${BURN_VERSION:-0.22.1}
meganeura=${MEGANEURA_VERSION:-0.2.0}
ort=${ORT_VERSION:-1.30.0}
repeats=${REPEATS:-20}
# burn needs seconds for a step, ONNX Runtime Web more than ten for a forward pass.
few=$((repeats / 4 + 1))
# Of burn and of a browser; burn's first training step tunes its kernels for minutes.
limit=3600

mkdir -p "$dir/data" "$dir/results"
if [ $# -eq 0 ]; then
    set -- torch duet burn duet-web ort-web
    rm -f "$dir"/results/*
    echo whole >"$dir/results/run"
else
    echo parts >"$dir/results/run"
fi
wanted=" $* "
wants() {
    case "$wanted" in *" $1 "*) return 0 ;; *) return 1 ;; esac
}
say() { echo "peers: $*" >&2; }

# Runs a peer; what it prints is its result, and a failure is a result too.
peer() {
    name=$1
    shift
    say "measuring $name"
    code=0
    timeout --foreground "$limit" "$@" >"$dir/results/$name.json.part" 2>"$dir/results/$name.log" || code=$?
    if [ "$code" -ne 0 ]; then
        say "$name failed ($code); the end of $dir/results/$name.log:"
        tail -n 5 "$dir/results/$name.log" >&2
        [ "$code" -ne 124 ] || code="stopped after $limit s"
        echo "{\"failed\": \"$code\"}" >"$dir/results/$name.json.part"
    fi
    mv "$dir/results/$name.json.part" "$dir/results/$name.json"
}

# Everything is built and downloaded before the first measurement.
sh "$root/trainer/scripts/setup.sh" vulkan python
if [ ! -x "$dir/venv/bin/python" ]; then
    python3 -m venv "$dir/venv"
fi
say "PyTorch $torch"
# The index's usual build brings libraries for GPUs along (5.5 GB). With pip's setting for another index, one with
# PyTorch's build for processors, it is 1 GB; what is measured is the same.
"$dir/venv/bin/pip" install --quiet "torch==$torch" numpy safetensors onnx onnxscript
if wants duet; then
    say "Duet"
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --workspace --example peers
fi
# Builds a Rust peer, of a version that may be another than that of its lock file: crate NAME VERSION [FLAGS OF CARGO].
crate() {
    name=$1 version=$2
    shift 2
    say "$name $version"
    mkdir -p "$dir/$name"
    rm -rf "$dir/$name/src"
    cp -r "$here/$name/src" "$dir/$name/src"
    sed "s/^\($name = .*\)\"=[^\"]*\"/\1\"=$version\"/" "$here/$name/Cargo.toml" >"$dir/$name/Cargo.toml"
    locked=--locked
    gzip -dc "$here/$name/Cargo.lock.gz" >"$dir/$name/Cargo.lock"
    if ! cmp -s "$here/$name/Cargo.toml" "$dir/$name/Cargo.toml"; then
        rm "$dir/$name/Cargo.lock"
        locked=
    fi
    # shellcheck disable=SC2086
    cargo build --quiet --release --manifest-path "$dir/$name/Cargo.toml" --target-dir "$dir/$name/target" $locked "$@"
    echo "$version${*:+ ($*)}" >"$dir/results/$name-version"
}
if wants burn || wants burn-late; then
    # shellcheck disable=SC2086
    crate burn "$burn" ${BURN_FLAGS:-}
fi
if wants meganeura; then
    crate meganeura "$meganeura"
fi
if wants duet-web || wants ort-web; then
    say "ONNX Runtime Web $ort, and Duet's npm package"
    sh "$root/trainer/scripts/setup.sh" web browser
    npm install --no-audit --no-fund --silent --prefix "$dir/npm" "onnxruntime-web@$ort"
    sh "$root/web/scripts/build.sh" >/dev/null
fi

cut -d ' ' -f 1 /proc/loadavg >"$dir/results/load"
if wants torch || [ ! -e "$dir/data/case.safetensors" ]; then
    peer torch "$dir/venv/bin/python" "$here/torch_peer.py" "$dir/data" "$repeats"
fi
if wants duet; then
    peer duet "${CARGO_TARGET_DIR:-$root/target}/release/examples/peers" "$dir/data" "$repeats"
fi
if wants burn; then
    peer burn-forward "$dir/burn/target/release/peers-burn" forward "$dir/data" "$few"
    peer burn-train "$dir/burn/target/release/peers-burn" train "$dir/data" "$few"
fi
if wants burn-late; then
    peer burn-late "$dir/burn/target/release/peers-burn" late "$dir/data" "$few"
fi
if wants meganeura; then
    peer meganeura-forward "$dir/meganeura/target/release/peers-meganeura" forward "$dir/data" "$repeats"
    peer meganeura-train "$dir/meganeura/target/release/peers-meganeura" train "$dir/data" "$repeats"
fi
for page in duet ort; do
    if wants "$page-web"; then
        count=$repeats
        [ "$page" = duet ] || count=$few
        peer "$page-web" node "$here/browser.mjs" "$dir/data" "$dir/npm/node_modules/onnxruntime-web/dist" "$page" "$count"
    fi
done
exec "$dir/venv/bin/python" "$here/report.py" "$dir/results"
