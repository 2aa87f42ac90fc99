# The small world five times, each time with another fifth of its rated pictures held out: every rated picture is measured on once, by
# models that have not seen it, so intervals are half as wide. No model ships from it. Read by reproduce.sh.

if [ -z "${FOLD-}" ]; then
    for FOLD in 0 1 2 3 4; do FOLD=$FOLD recipes/reproduce.sh "$@"; done
    [ -n "$tiny" ] || $python recipes/results.py recipes/folds/study.toml -o docs/folds.md
    exit
fi

runs=$runs/$FOLD fold="--fold $FOLD"
mkdir -p "$runs"
recipes=recipes/small
. "$recipes/world.sh"
smaller="$smaller --set data.validation=[]"
# Each fold has a seed of its own, so the mean over folds is one over seeds too.
short="$short --set run.seed=$FOLD --set data.pool=400"
[ "$row_steps" -lt 1000 ] || short="$short --set optim.ema=0.998"
smaller_student=$short  # the student is the full row

study() {
    install_imagenet
    take_turns "${JOBS:-2}"
    in_turn third_teacher
    in_turn unaided "labels-only-$FOLD" student.toml "L" $alone $imagenet --set model.frozen=0
    [ -z "${FEW_PIXELS-}" ] || few_pixels
    all_done
}

few_pixels() {
    # Two rows that make one pool at a time take different seeds, or they would make the same batches at once.
    few="--set model.input=112 --set run.seed=$((FOLD + 5))"
    in_turn row "few-pixels-$FOLD" student_fast.toml "$student_sets" $(start_from "$teacher") $(taught_by "$teacher" teacher) $few
    in_turn unaided "few-pixels-labels-only-$FOLD" student_fast.toml "L" $alone $imagenet $few
}

third_teacher() { # from ImageNet, where T began as a judge of pictures: so it errs differently. Of L alone, in order on ladders
    unaided "third-teacher-$FOLD" student.toml "L" $alone $imagenet --set "model.backbone=\"tf_efficientnet_lite0\"" \
        --set model.neck=0 --set model.frozen=0 --set loss.rank=1 --set ladder.pairs=6 --set data.batch=36 \
        --set optim.steps=$((row_steps * 3 / 8)) --set data.pool=250
    row "three-teachers-$FOLD" student.toml "$student_sets" $(start_from "$teacher") \
        $(taught_by "$teacher" teacher "study/third-teacher-$FOLD")
}

publish() { :; }  # when all folds are done
