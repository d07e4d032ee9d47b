#!/bin/sh
# Installs the exact versions of package-lock.json, once: of the package, or of the folder given (`examples`: what tests of
# bundlers, Node and Deno need, 17 s and 290 MB that who builds the page need not have).
set -eu
cd "$(dirname "$0")/../${1:-.}"
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund
    touch node_modules/.package-lock.json
fi
