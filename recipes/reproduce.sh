#!/bin/sh
# The whole study, from rated pictures to the student and its table of results.
#
#   recipes/reproduce.sh [small|few|folds|paper] [--tiny] [--rounds=N] [--until=STAGE] [--ray[=ADDRESS]]
#
# small   two CPU cores and the data in ../shared (the default). Minutes on two cores with AVX-512 and bf16: T 5, its labels 3, T+ 3,
#         its labels 3; the student 16 (its 1,000 steps at 51 crops/s); order 14 and 6; population, export, policies 3. What ships had STUDENT_STEPS=3000, on an H200
#         beside fourteen others in 8. Rows of docs/rows.md take the other core.
#         On one H200 and 16 cores, from nothing, T and the student each killed with SIGKILL in the middle: T+ in 3.6 minutes.
#         Those for fewer pixels with FAST_STEPS=3000 took 9 minutes each on an H100, beside eleven other runs.
#         FEW_PIXELS=yes ROW_STEPS=2000 on the two cores, two rows at once: 9 a row, the first 17 and 23 (pool, beside CI), and 23 a row of 5,000 steps.
# few     the small world with a fifth of its labels, measured on the other four; no model ships from it. Minutes: T+ 35, its
#         labels 8, students 40, table 12; on an H100 and 16 cores, ROW_STEPS=1500, the students 7 beside seven other runs.
# folds   the small world five times, each time with another fifth of the rated pictures held out; no model ships from it.
#         FOLD=3 makes one of the five; FEW_PIXELS=yes adds students of 112 px. Minutes on two cores with AVX-512: T, its labels, T+ and its labels of
#         two folds side by side 21; on an H200 and 16 cores, ROW_STEPS=3000, the students of all five side by side 8.
# paper   the published setting: Swin-B at 448, EdgeNeXt-XXS at 352, GPUs; see recipes/paper/data.sh
# --tiny  any world in a minute or two on random pictures, to prove that every step works:
#         ends with an error unless the student ranks a degradation that it was taught
# --rounds=N      rounds of self-training (1)
# --until=STAGE   stop after teacher, teacher_plus or student
# --ray           pictures are labelled in a Ray cluster: the one at ADDRESS (host:port), one that runs, or this machine
#
# The five stages (arXiv 2507.15709): teacher T on L; T labels U1; T+ on L and U1(T); T+ labels U2;
# student on L, U1(T) and U2(T+). A stage whose inputs have not changed since it was done is skipped; one
# that was interrupted goes on where it stopped.
# GPUS=4 trains on four. Where there are more than two cores: LOADERS=15, that many processes make batches for a stage
# that runs alone; JOBS=8, that many rows of the study at once, ROW_LOADERS=2 processes for each.
set -euf
cd "$(dirname "$0")/.."

world=small tiny="" rounds=1 until=end ray=""
for argument; do
    case $argument in
        small | few | folds | paper) world=$argument ;;
        --tiny) tiny=-tiny ;;
        --rounds=*) rounds=${argument#*=} ;;
        --until=*) until=${argument#*=} ;;
        --ray) ray=auto ;;
        --ray=*) ray=${argument#*=} ;;
        *) sed -n '2,/^set /{/^#/p}' "$0" >&2; exit 2 ;;
    esac
done
trap 'trap "" TERM; kill 0; exit 130' INT  # what runs in the background would not hear of Ctrl-C
# Networks this small are faster on one thread than on two that wait for each other.
[ -z "$tiny" ] || export OMP_NUM_THREADS=1
runs=runs/$world$tiny
recipes=recipes/$world
mkdir -p "$runs"
scripts/setup all
python=.venv/bin/python
efiqa="$python -m efiqa"
trainer=$efiqa
[ "${GPUS:-1}" -gt 1 ] && trainer="$python -m torch.distributed.run --standalone --nproc-per-node $GPUS -m efiqa"

. recipes/stage.sh

until_stage() { if [ "$until" = "$1" ]; then echo "stopped after $1, as asked"; exit 0; fi; }

train() { # train RUN RECIPE "MANIFESTS" [--set …]: a run folder, and in it the model
    run=$runs/$1 recipe=$recipes/$2 manifests=$3; shift 3
    names=""
    for name in $manifests; do names="$names,\"$runs/$name.csv\""; done
    files=$(for name in $manifests; do echo "$runs/$name.csv"; done)
    stage "$run" "$recipe $files ${teacher:+$runs/$teacher/last.safetensors}" \
        $trainer train "$recipe" -o "$run" --set "data.train=[${names#,}]" \
        --set "data.validation=[\"$runs/L.csv\"]" $smaller "$@"
    statement=${recipe%.toml}.card.toml
    stage "$run/model.onnx" "$run/last.safetensors $statement" \
        $efiqa export "$run" -o "$run/model.onnx" --statement "$statement"
}

# pseudo_label SET TEACHER NAME: NAME.csv, where `calibrated` is yes fitted to L's training rows, and where
# `confidence` is weight counting by how far views agree
pseudo_label() {
    model=$runs/$2/model.onnx
    for set in L "$1"; do
        if [ -n "$ray" ]; then  # a data set in parts, made by as many machines as there are
            stage "$runs/$set.$2.parts" "$model $runs/$set.csv" \
                $efiqa score "$runs/$set.csv" -m "$model" --faces none --views "$views" -o "$runs/$set.$2.parts/" \
                --resume --ray "$ray"
        else
            stage "$runs/$set.$2.csv" "$model $runs/$set.csv" \
                $efiqa score "$runs/$set.csv" -m "$model" --faces none --views "$views" -o "$runs/$set.$2.csv" --resume
        fi
    done
    scores=csv said=csv
    [ -z "$ray" ] || scores=parts said=parts/_shards.jsonl
    calibration=""
    [ "$calibrated" = yes ] && calibration="--ratings $runs/L.csv --rated $runs/L.$2.$scores"
    stage "$runs/$3.csv" "$model $runs/$1.$2.$said $runs/L.$2.$said $runs/L.csv" \
        $efiqa label "$runs/$1.$2.$scores" -m "$model" --manifest "$runs/$1.csv" \
        $calibration --confidence "$confidence" -o "$runs/$3.csv"
}

confidence=weight calibrated=yes
smaller="${LOADERS:+--set data.workers=$LOADERS}" smaller_teacher="" smaller_student=""
# What the world is made of: L.csv, U1.csv and U2.csv in $runs, which views a teacher takes, and what the
# students start from.
. "$recipes/world.sh"
[ -z "$tiny" ] || . recipes/tiny.sh
make_sets

teacher=""
train teacher teacher.toml "L" ${first_teacher-} $smaller_teacher
until_stage teacher
pseudo_label U1 teacher U1.pseudo
teacher=teacher
train teacher_plus teacher_plus.toml "$labelled U1.pseudo" $(start_from teacher) $smaller_teacher
teacher=teacher_plus
round=2
while [ "$round" -le "$rounds" ]; do
    pseudo_label U1 "$teacher" "U1.pseudo-$round"
    train "teacher_plus-$round" teacher_plus.toml "$labelled U1.pseudo-$round" $(start_from "$teacher") $smaller_teacher
    teacher=teacher_plus-$round
    round=$((round + 1))
done
until_stage teacher_plus
pseudo_label U2 "$teacher" U2.pseudo

[ -z "${student_threads-}" ] || export OMP_NUM_THREADS="$student_threads"
train student student.toml "$student_sets" $(start_from "$teacher") $(taught_by "$teacher" ${second_teacher-}) $smaller_student
until_stage student
if [ -n "$tiny" ]; then
    $python recipes/tiny.py --check "$runs/student/model.onnx"
    exit
fi
study
publish
