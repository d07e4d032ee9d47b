#!/bin/sh
# Builds the fuzz targets and runs them one after the other, MINUTES each: all of them, or those that are named. The flags are
# those that cargo-fuzz gives the compiler without a sanitizer, which stable Rust takes too; dependencies are instrumented as
# well, for that is where most parsing happens.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
minutes=${MINUTES:-10}
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="$root/target/fuzz"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16"
# With --target the flags are not those of build scripts.
cargo build --release --target "$host"
[ $# -gt 0 ] || set -- $(cd fuzz_targets && ls | sed 's/\.rs$//')
failed=
for name in "$@"; do
    # The corpus that is committed stays small: what is learned goes beside it.
    learned="$CARGO_TARGET_DIR/corpus/$name"
    found="$CARGO_TARGET_DIR/found/$name"
    mkdir -p "$learned" "$found"
    echo "$name: $minutes minutes"
    "$CARGO_TARGET_DIR/$host/release/$name" "$learned" "corpus/$name" -max_total_time=$((minutes * 60)) \
        -max_len=65536 -timeout=25 -rss_limit_mb=4096 -artifact_prefix="$found/" -print_final_stats=1 \
        >"$CARGO_TARGET_DIR/$name.log" 2>&1 || failed="$failed $name"
    tail -n 5 "$CARGO_TARGET_DIR/$name.log"
done
if [ -n "$failed" ]; then
    echo "found in:$failed; the inputs are in $CARGO_TARGET_DIR/found, the logs beside it" >&2
    exit 1
fi
