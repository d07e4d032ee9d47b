#!/bin/sh
# Puts what a run of run.sh left together: results.json, table.txt and, to send in, gpu-hour.tar.gz.
#
#   results.sh OUT STARTED MINUTES TINY ROOT
#
# Every part's JSON goes in as it is, so that this needs no more than a shell; the table needs python3.
set -u
out=$1 started=$2 minutes=$3 tiny=$4 root=$5
here=$(cd "$(dirname "$0")" && pwd)

# Text as a JSON string: control characters are dropped.
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"; }

{
    printf '{"schema": 1, "started": %s, "seconds": %s, "minutes": %s, "tiny": %s,\n' \
        "$started" "$(($(date +%s) - started))" "$minutes" "$tiny"
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || cat "$root/revision" 2>/dev/null || echo unknown)
    printf '"revision": %s,\n"machine": %s,\n"parts": [' "$(quoted "$revision")" "$(quoted "$(uname -srm)")"
    comma=
    tab=$(printf '\t')
    while IFS="$tab" read -r name state seconds share remark; do
        printf '%s\n{"name": %s, "state": %s, "seconds": %s, "share": %s, "remark": %s}' "$comma" \
            "$(quoted "$name")" "$(quoted "$state")" "$seconds" "$share" "$(quoted "$remark")"
        comma=,
    done <"$out/parts.tsv"
    printf '\n],\n"results": {'
    comma=
    for file in "$out"/json/*.json; do
        [ -e "$file" ] || continue
        printf '%s\n%s: ' "$comma" "$(quoted "$(basename "$file" .json)")"
        cat "$file"
        comma=,
    done
    printf '}}\n'
} >"$out/results.json"

if command -v python3 >/dev/null 2>&1; then
    python3 "$here/table.py" "$out/results.json" >"$out/table.txt" || echo "gpu-hour: the table failed" >&2
else
    { echo "no python3 here: figures are in results.json" && cat "$out/parts.tsv"; } >"$out/table.txt"
fi
cat "$out/table.txt"
(cd "$out" && tar -czf gpu-hour.tar.gz results.json table.txt logs $(ls -d tuned-*.json 2>/dev/null))
echo "gpu-hour: results.json, table.txt and, to send in, gpu-hour.tar.gz are in $out"
