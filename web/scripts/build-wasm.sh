#!/bin/sh
# Builds the WebAssembly module and its JavaScript into web/src/wasm: with rustup's target where it is there or can be
# added, else with Debian's compiler, which brings the standard library's source. Cargo keeps what it built, so a second
# call takes seconds.
set -eu
cd "$(dirname "$0")/../.."
target=wasm32-unknown-unknown

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] ||
    { command -v rustup >/dev/null 2>&1 && timeout 60 rustup target add $target >/dev/null 2>&1; }; then
    echo "wasm: rustup's target"
    output=target
    cargo build --profile wasm --package duet-web --target $target
else
    sh trainer/scripts/setup.sh wasm
    echo "wasm: Debian's compiler"
    # A folder of its own: two compilers sharing one would rebuild everything at each turn. The standard library is
    # unstable to build, hence the bootstrap flag. /usr/bin comes first so that cargo finds its own rustc and rustdoc.
    output=target/wasm
    env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$output \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld \
        /usr/bin/cargo build -Zbuild-std=std,panic_abort --profile wasm --package duet-web --target $target
fi
# Of the whole workspace, for another selection would compile the dependencies anew with other features. The module above
# is the only thing of its profile: it alone is selected.
cargo build --release --workspace --bin duet-bindgen
rm -rf web/src/wasm
target/release/duet-bindgen $output/$target/wasm/duet_web.wasm web/src/wasm
