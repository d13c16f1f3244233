#!/usr/bin/env bash
# Train on all hosts of a Cloud TPU slice. docs/pods.md says what has to be there first.
#
#   NAME=cnn ZONE=us-west4-a SHARE=10.0.0.2:/runs bash experiments/launch/tpu_pod.sh create
#   NAME=cnn ZONE=us-west4-a bash experiments/launch/tpu_pod.sh train \
#       --model lenet5 --data digits --out /mnt/runs/a
#   NAME=cnn ZONE=us-west4-a bash experiments/launch/tpu_pod.sh delete
#
# TYPE (v5litepod-16), VERSION (v2-alpha-tpuv5-lite), REPOSITORY (this clone's origin) and SPOT=1
# may be set for `create`. SHARE is an NFS export, which becomes /mnt/runs on every host.
set -euo pipefail
: "${NAME:?name of the slice}" "${ZONE:?its zone}"
action=${1:?create, train or delete}
shift

everywhere() { # run one command line on every host of the slice
    gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

case $action in
create)
    : "${SHARE:?NFS export for runs, HOST:/PATH}"
    gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" ${SPOT:+--spot} \
        --accelerator-type="${TYPE:-v5litepod-16}" --version="${VERSION:-v2-alpha-tpuv5-lite}"
    repository=${REPOSITORY:-$(git config --get remote.origin.url)}
    everywhere "set -e
        sudo apt-get install -y nfs-common make git
        sudo mkdir -p /mnt/runs && sudo mount $SHARE /mnt/runs && sudo chmod a+rwx /mnt/runs
        python3 -m pip install --user uv # finds a Python that is new enough
        git clone $repository cnn && cd cnn && PATH=\$HOME/.local/bin:\$PATH make install EXTRA=tpu"
    ;;
train)
    # A host that is lost ends all of them, with a code other than 0; bad arguments have code 2.
    for attempt in 1 2 3 4 5; do
        code=0
        everywhere "cd cnn && .venv/bin/python -m experiments.train --distributed --resume $(printf '%q ' "$@")" ||
            code=$?
        if [ $code -eq 0 ] || [ $code -eq 2 ]; then exit $code; fi
        echo "attempt $attempt ended with code $code" >&2
    done
    exit $code
    ;;
delete)
    gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
    ;;
*)
    echo "error: unknown action '$action': create, train or delete" >&2
    exit 2
    ;;
esac
