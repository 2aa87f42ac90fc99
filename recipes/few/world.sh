# The small world with a fifth of its labels: what the method is worth where labels are few. Read by reproduce.sh.
# All networks start from ImageNet, because the small world's start has learnt from 7,390 pictures of this collection. The
# other four fifths of the labels are measured on, and no stage looks at them before the table is made.

recipes=recipes/small
ROW_STEPS=${ROW_STEPS:-200}
. "$recipes/world.sh"
held_out=0.8
second_teacher=""
smaller="$smaller --set data.validation=[]"
# Labels count four times as often as in the small world, so they have the same share of what is seen.
labelled="L L L L L L L L"
student_sets="$labelled L L L L U1.pseudo U2.pseudo"
first_teacher="$imagenet --set optim.lr=3e-4 --set optim.steps=200"
# Students see less than their teachers, as efiqa-192 does, so that a dozen of them are an hour's work.
short="$short --set model.input=192 --set data.pool=300"
smaller_student=$short  # the student is the first of the full rows
[ -n "$tiny" ] || install_imagenet

study() {
    full="$(start_from "$teacher") $(taught_by "$teacher")"
    take_turns "${JOBS:-2}"
    for seed in ${SEEDS-0 1 2}; do
        in_turn unaided "labels-only-$seed" student.toml "L" $alone $imagenet
        # So few labels may be known by heart before the others' time is over.
        in_turn unaided "labels-only-briefly-$seed" student.toml "L" $alone $imagenet --set optim.steps=$((row_steps / 3))
        in_turn row "as-published-$seed" student.toml "$student_sets" $full $alone
        [ "$seed" = 0 ] || in_turn row "full-$seed" student.toml "$student_sets" $full
    done
    in_turn row "labels-only-from-teacher-0" student.toml "L" $alone $(start_from "$teacher")
    all_done
}

publish() { $python recipes/results.py recipes/few/study.toml -o docs/few_labels.md; }
