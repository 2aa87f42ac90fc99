# The paper world: data that L_TABLE, L_IMAGES, U1_IMAGES and U2_IMAGES name, see data.sh. Read by reproduce.sh.

views=flip
# As published: labels fitted to the ratings, and all of the same weight.
confidence=none
labelled="L"
student_sets="$labelled U1.pseudo U2.pseudo"

# As published, each network begins where its recipe says, and the student learns from pseudo-labels alone.
start_from() { :; }
taught_by() { :; }

make_sets() { PYTHON=$python recipes/paper/data.sh "$runs"; }

study() { :; }

publish() { $python recipes/results.py recipes/paper/study.toml -o "$runs/results.md"; }
