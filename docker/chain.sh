#!/usr/bin/env bash
# The whole pipeline on phantoms, each stage submitted to the cluster like a user would. Run again, it resumes from
# what is in the store. Stops at the first stage that fails, with its code.
set -euo pipefail
store=$LUNGFORGE_STORE
# lungforge refuses such a URI; here it would be printed before.
case $store in *://*@* | *://*\?*)
    echo "chain: LUNGFORGE_STORE has a user name, password or query; leave it out" >&2
    exit 2
    ;;
esac

stage() {
    echo "chain: $*" >&2
    lungforge submit --again "$@"
}

generated() {
    python -c 'import fsspec, sys; fs, path = fsspec.url_to_fs(sys.argv[1]); sys.exit(not fs.exists(path))' \
        "$store/luna16/annotations.csv"
}

if generated; then
    echo "chain: the phantoms exist already" >&2
else
    stage phantom --out "$store/luna16" --series 10 --size 96 --slices 20
fi
stage preprocess --source "$store/luna16" --out "$store/slices" --size 32 --slices nodules --healthy-every 4
stage train --data "$store/slices" --out "$store/model" --preset tiny --steps 60 --subsets 0 1 2 3 4 5 6
stage sample --model "$store/model" --data "$store/slices" --out "$store/samples" --subsets 0 1 2 3 4 5 6 \
    --count 16 --steps 10
stage evaluate --real "$store/slices" --synthetic "$store/samples" --out "$store/report" --subsets 7 8 9
echo "chain: done; the report is $store/report/report.html" >&2
