#!/bin/sh
# Packs what a bare machine with a GPU needs for run.sh: stripped binaries, fixtures, recipes, data, the Vulkan loader.
#
#   pack.sh [FILE.tar.gz]   the whole pack (default target/gpu-hour/duet-gpu.tar.gz)
#   pack.sh --bin FOLDER    only the binaries, into FOLDER
#
# There: tar -xzf duet-gpu.tar.gz && sh duet-gpu/benches/gpu/run.sh --bin duet-gpu/bin --minutes 30 --out results
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"

# binaries FOLDER: builds and copies them there, and notes the path where tests look for fixtures.
binaries() {
    mkdir -p "$1"
    # The whole workspace is selected, for another selection would compile the dependencies anew with other features.
    suite=$(cargo build --quiet --release --workspace --bin duet --test suite --message-format=json |
        sed -n 's/.*"executable":"\([^"]*suite-[^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$suite" ] || { echo "pack.sh: the suite was not built" >&2 && exit 1; }
    target=$(dirname "$(dirname "$suite")")
    for pair in "$target/duet:duet" "$suite:suite"; do
        strip -o "$1/${pair#*:}" "${pair%:*}" 2>/dev/null || cp "${pair%:*}" "$1/${pair#*:}"
    done
    echo "$root" >"$1/root"
}

if [ "${1:-}" = --bin ]; then
    [ $# -eq 2 ] || { echo "usage: pack.sh --bin FOLDER" >&2 && exit 2; }
    binaries "$2"
    exit 0
fi
file=${1:-target/gpu-hour/duet-gpu.tar.gz}
stage=target/gpu-hour/pack/duet-gpu
rm -rf target/gpu-hour/pack
mkdir -p "$stage/benches/peers" "$stage/trainer" "$stage/tests" "$stage/lib" "$(dirname "$file")"
binaries "$stage/bin"
cp -R benches/gpu "$stage/benches/"
cp benches/peers/unet.py "$stage/benches/peers/"
cp -R trainer/recipes "$stage/trainer/"
cp -R tests/fixtures tests/plans "$stage/tests/"
cp -R wgsl src "$stage/"
git rev-parse HEAD >"$stage/revision" 2>/dev/null || echo unknown >"$stage/revision"
data=${DATA:-/usr/share/datasets/fashion-mnist}
if [ -d "$data" ]; then
    mkdir -p "$stage/data/fashion-mnist"
    cp "$data"/*-ubyte* "$stage/data/fashion-mnist/"
else
    echo "pack.sh: no Fashion-MNIST in $data: the pack cannot train (DATA names another folder)" >&2
fi
loader=$(ldconfig -p 2>/dev/null | sed -n 's/.*libvulkan\.so\.1 .*x86-64.*=> //p' | head -n 1)
[ -z "$loader" ] || cp -L "$loader" "$stage/lib/libvulkan.so.1"
tar -czf "$file" -C target/gpu-hour/pack duet-gpu
echo "pack.sh: $(du -h "$file" | cut -f1) in $file; on the other machine:
  tar -xzf $(basename "$file") && sh duet-gpu/benches/gpu/run.sh --bin duet-gpu/bin --minutes 30 --out results"
