# What --tiny changes in any world: random pictures, random starts, small crops. Read by reproduce.sh.

smaller=$(sed 's/^/--set /' recipes/tiny.sets)
start_from() { :; }
first_teacher=""
make_sets() { stage "$runs/L.csv" "recipes/tiny.py" $python recipes/tiny.py "$runs"; }
if [ "$world" = paper ]; then
    # Swin-B itself has 87 million parameters to no purpose here. EdgeNeXt learns slowly from random weights.
    smaller_teacher='--set model.backbone="swin_t" --set optim.steps=8'
    smaller_student='--set optim.steps=300 --set optim.warmup=0.1'
    student_sets="L L L L U1.pseudo U2.pseudo"
else
    smaller_teacher='--set model.backbone="tf_efficientnet_lite0:3"'
    smaller_student='--set model.backbone="tf_efficientnet_lite0:3" --set model.neck=64'
fi
