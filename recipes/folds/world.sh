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
short="$short --set run.seed=$FOLD"
[ "$row_steps" -lt 1000 ] || short="$short --set optim.ema=0.998"
smaller_student="$short --set distil.teachers=[\"$runs/teacher_plus\",\"$runs/teacher\"]"  # the student is the full row

study() {
    install_imagenet
    take_turns "${JOBS:-2}"
    unaided_rows
    in_turn row "as-published-$FOLD" student.toml "$student_sets" $(start_from "$teacher") $alone
    all_done
}

unaided_rows() { # labels alone, in every way that might favour them
    in_turn unaided "labels-only-$FOLD" student.toml "L" $alone $imagenet
    in_turn unaided "labels-only-free-$FOLD" student.toml "L" $alone $imagenet --set model.frozen=0
    in_turn unaided "labels-only-briefly-$FOLD" student.toml "L" $alone $imagenet --set optim.steps=$((row_steps / 4))
}

publish() { :; }  # when all folds are done
