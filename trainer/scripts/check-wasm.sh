#!/bin/sh
# Checks that the library builds for WebAssembly: with rustup's target where it is there or can be added, else with
# Debian's compiler, which brings the standard library's source.
set -eu
cd "$(dirname "$0")/../.."
target=wasm32-unknown-unknown

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] ||
    { command -v rustup >/dev/null 2>&1 && timeout 60 rustup target add $target >/dev/null 2>&1; }; then
    echo "check-wasm: rustup's target"
    exec cargo check --release --package duet --target $target
fi
sh trainer/scripts/setup.sh wasm
echo "check-wasm: Debian's compiler"
# A folder of its own: two compilers sharing one would rebuild everything at each turn. The standard library is
# unstable to build, hence the bootstrap flag. /usr/bin comes first so that cargo finds its own rustc and rustdoc.
exec env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=target/wasm \
    /usr/bin/cargo check -Zbuild-std=std,panic_abort --release --package duet --target $target
