#!/bin/sh
# Builds the npm package into web/dist: the WebAssembly module, then the TypeScript layer.
set -eu
cd "$(dirname "$0")/.."
sh scripts/build-wasm.sh
sh scripts/install.sh
rm -rf dist
npx --no-install tsc -p .
cp -r src/wasm dist/wasm
# The package carries the licences of the project.
cp ../LICENSE-MIT ../LICENSE-APACHE .
