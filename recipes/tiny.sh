# What --tiny changes in either world: random pictures, random starts, small crops. Read by reproduce.sh.

smaller=$(sed 's/^/--set /' recipes/tiny.sets)
start_from() { :; }
make_sets() { stage "$runs/L.csv" "recipes/tiny.py" $python recipes/tiny.py "$runs"; }
# Swin-B itself has 87 million parameters to no purpose here, nor does a teacher need all stages.
smaller_teacher="--set model.backbone=\"tf_efficientnet_lite0:3\""
if [ "$world" = paper ]; then smaller_teacher="--set model.backbone=\"swin_t\" --set optim.steps=8"; fi
