#!/bin/sh
# Trains the default model by its recipe into runs/fashion, or goes on where an earlier call stopped.
set -eu
cd "$(dirname "$0")/../.."
exec target/release/duet train trainer/recipes/fashion-mnist.toml --out runs/fashion --resume=auto
