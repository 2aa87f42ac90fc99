#!/bin/sh
# Manifests of the published setting, from downloads as they come: RUNS/L.csv, RUNS/U1.csv, RUNS/U2.csv.
#
#   L_TABLE=… L_IMAGES=… U1_IMAGES=… U2_IMAGES=… recipes/paper/data.sh [RUNS]      (RUNS: runs/paper)
#
# L_TABLE    ratings in 0–1: VQualA's CSV (Image, raw_score, mapped_score; the last is meant) or GFIQA-20k's
#            (Image_name, MOS), with or without that header
# L_IMAGES   folder of the rated pictures; a tenth of them, drawn by name, is held out for validation
# U1_IMAGES, U2_IMAGES   folders of unlabelled faces, subfolders too; the two should not share pictures
#
# Relative paths start at the project's root.
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-runs/paper}
efiqa="${PYTHON:-.venv/bin/python} -m efiqa"

missing=""
for name in L_TABLE L_IMAGES U1_IMAGES U2_IMAGES; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        missing="$missing $name"
    elif [ ! -e "$value" ]; then
        echo "error: $name=$value is not there" >&2
        exit 2
    fi
done
if [ -n "$missing" ]; then
    echo "error: not set:$missing" >&2
    echo "hint: the published data cannot be passed on; recipes/paper/data.sh says what each name stands for" >&2
    exit 2
fi
mkdir -p "$runs"
$efiqa index "$L_TABLE" --root "$L_IMAGES" --validation 0.1 -o "$runs/L.csv"
$efiqa index "$U1_IMAGES" --split train -o "$runs/U1.csv"
$efiqa index "$U2_IMAGES" --split train -o "$runs/U2.csv"
