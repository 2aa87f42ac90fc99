#!/bin/sh
# From rated pictures to the model that ships: every step, in order, on two CPU cores.
#
#   recipes/small/make.sh
#
# Measured step by step beside other work: teacher 14 minutes, copies 5, their labels 14, face crops 5, student 41,
# its second phase 10. The whole has not been run as one yet.
# Run from the project's root with the data in ../shared. A step whose result is there is not done again,
# and training and scoring go on where they were interrupted.
set -eu
cd "$(dirname "$0")/../.."
scripts/setup all
efiqa=.venv/bin/efiqa
data=../shared/data
runs=runs/small

once() { # once RESULT COMMAND…
    result=$1; shift
    [ -e "$result" ] || "$@"
}

# 1. Manifests. BIQ2021's pictures are numbered as they were shot: a hundred in a row share a split, so that
#    shots of one scene do. Faces of ffhq and ytf that later steps report on are held out here.
once $runs/biq.csv $efiqa index $data/biq.csv --root $data/biq --score mos \
    --group-pattern '^(ss\d+_\d+)\d\d\.' --validation 0.2 -o $runs/biq.csv
once $runs/pictures.csv $efiqa index $data/pictures -o $runs/pictures.csv
once $runs/utk.csv $efiqa index $data/utk.csv --root $data/utk -o $runs/utk.csv
once $runs/aaf.csv $efiqa index $data/aaf -o $runs/aaf.csv
once $runs/ffhq.csv $efiqa index $data/ffhq --validation 0.2 -o $runs/ffhq.csv
once $runs/ytf.csv $efiqa index $data/ytf.csv --root $data/ytf --group identity --validation 0.2 -o $runs/ytf.csv

# 2. The teacher, on the labelled set.
$efiqa train recipes/small/teacher.toml -o $runs/teacher
once $runs/teacher.onnx $efiqa export $runs/teacher -o $runs/teacher.onnx --statement recipes/small/teacher.card.toml

# 3. Cropped and degraded copies, labelled by the teacher; face crops of the labelled set too.
copies() { # copies SET NUMBER
    once $runs/copies/$1.csv $efiqa degrade $runs/$1.csv -o $runs/copies/$1.csv --copies $2
    once $runs/copies/$1.scores.csv $efiqa score $runs/copies/$1.csv -m $runs/teacher.onnx --faces none \
        -o $runs/copies/$1.scores.csv --resume
    once $runs/pseudo/$1.csv $efiqa label $runs/copies/$1.scores.csv -m $runs/teacher.onnx \
        --manifest $runs/copies/$1.csv -o $runs/pseudo/$1.csv
}
copies biq 5
copies pictures 5
copies ffhq 5
copies aaf 3
copies utk 2
copies ytf 2
once $runs/faces.scores.csv $efiqa score $runs/biq.csv --faces largest -m $runs/teacher.onnx -o $runs/faces.scores.csv --resume
once $runs/pseudo/faces.csv $efiqa label $runs/faces.scores.csv -m $runs/teacher.onnx \
    --manifest $runs/biq.csv -o $runs/pseudo/faces.csv

# 4. Two students on the same data. The one cut from the teacher's trunk, in two phases, ships.
$efiqa train recipes/small/student.toml -o $runs/student
$efiqa train recipes/small/student_finish.toml -o $runs/student_finish
$efiqa train recipes/small/student_edgenext.toml -o $runs/student_edgenext
once $runs/student.onnx $efiqa export $runs/student_finish -o $runs/student.onnx \
    --statement recipes/small/student.card.toml
once $runs/edgenext.onnx $efiqa export $runs/student_edgenext -o $runs/edgenext.onnx \
    --statement recipes/small/student_edgenext.card.toml

# 5. The population that `quality` is a percentile of: largest faces of all sets, scored by the student.
once $runs/population.jsonl $efiqa score $data/utk $data/aaf $data/ffhq $data/ytf $runs/biq.csv --faces largest \
    -m $runs/student.onnx -o $runs/population.jsonl --resume
$efiqa export $runs/student_finish -o src/efiqa/models/student.onnx --statement recipes/small/student.card.toml \
    --population $runs/population.jsonl \
    --population-name "faces: the largest of each picture of UTKFace, All-Age-Faces, FFHQ, YouTube Faces and BIQ2021 at hand"

# 6. What it is worth.
.venv/bin/python benchmarks/agreement.py $runs/biq.csv \
    $runs/teacher.onnx $runs/edgenext.onnx src/efiqa/models/student.onnx
.venv/bin/python benchmarks/ladders.py $runs/ffhq.csv
