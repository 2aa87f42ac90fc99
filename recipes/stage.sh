# One stage of a study: made once, gone on with where it was interrupted, never made twice from the same contents.
# Read by reproduce.sh, which sets $runs, the folder of everything that is made, and $python.

# stage OUTPUT "INPUT FILES" COMMAND…: run COMMAND unless OUTPUT was made by it from the same contents.
stage() {
    output=$1 inputs=$2; shift 2
    stamp=$runs/.stages/$(echo "$output" | tr / _)
    mkdir -p "$runs/.stages"
    digest=$($python -c 'import hashlib, pathlib, sys
state = hashlib.sha256(sys.argv[1].encode())
for name in sys.argv[2:]:
    lines = pathlib.Path(name).read_bytes().splitlines(keepends=True)
    # What a recipe says in comments changes no result.
    state.update(b"".join(line for line in lines if not (name.endswith(".toml") and line[:1] in b"#\n")))
print(state.hexdigest())' "$*" $inputs)
    if [ -e "$output" ] && [ "$(cat "$stamp.done" 2>/dev/null)" = "$digest" ]; then
        echo "= $output"
        return
    fi
    # What another command or other inputs have made is hours of somebody's time: it is kept beside the new. What this
    # command has begun, it goes on with; what git has can be had again.
    if [ "$(cat "$stamp.begun" 2>/dev/null)" != "$digest" ]; then
        for made in "$output" "${output%.*}" "$(dirname "$output")/.$(basename "$output").journal"; do
            if [ -e "$made" ] && ! git ls-files --error-unmatch "$made" > /dev/null 2>&1; then
                rm -rf "$made.old"
                mv "$made" "$made.old"
                echo "  $made was made from something else: it is $made.old now"
            fi
        done
    fi
    echo "$digest" > "$stamp.begun"
    echo "> $output   ($(date '+%H:%M:%S'))"
    "$@"
    echo "$digest" > "$stamp.done"
}

# Stages that do not wait for each other: take_turns N, in_turn COMMAND… for each, all_done. N run at once; when one has
# failed, all_done does after the others.
take_turns() {
    [ "$1" -ge 1 ] || { echo "JOBS must be at least 1, but got $1" >&2; exit 2; }
    waiting=$runs/.turns pids=""
    rm -f "$waiting"
    mkfifo "$waiting"
    exec 3<> "$waiting"
    for turn in $(seq "$1"); do echo "$turn" >&3; done
}
in_turn() {
    read -r turn <&3
    (trap 'echo "$turn" >&3' EXIT; "$@") &
    pids="$pids $!"
}
all_done() {
    failed=""
    for pid in $pids; do wait "$pid" || failed=yes; done
    exec 3>&-
    [ -z "$failed" ]
}
