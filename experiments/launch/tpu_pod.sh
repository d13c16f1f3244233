#!/usr/bin/env bash
# Train on all hosts of a Cloud TPU slice, which is asked for as a queued resource. docs/pods.md says
# what has to be there first.
#
#   NAME=cnn ZONE=us-west4-a bash experiments/launch/tpu_pod.sh create
#   NAME=cnn ZONE=us-west4-a bash experiments/launch/tpu_pod.sh train \
#       --model lenet5 --data digits --out gs://BUCKET/runs/a
#   NAME=cnn ZONE=us-west4-a bash experiments/launch/tpu_pod.sh delete
#
# TYPE (v5litepod-16), VERSION (v2-alpha-tpuv5-lite), REPOSITORY (this clone's origin), SPOT=1 and
# POLL (60, seconds between looks at the queue) may be set for `create`, and SHARE (10.0.0.2:/runs): an
# NFS export that becomes /mnt/runs on every host.
set -euo pipefail
: "${NAME:?name of the slice}" "${ZONE:?its zone}"
action=${1:?create, train or delete}
shift

queued() { # one command for the queued resource
    gcloud compute tpus queued-resources "$1" "$NAME" --zone="$ZONE" "${@:2}"
}

state() {
    queued describe --format='value(state.state)'
}

everywhere() { # run one command line on every host of the slice
    gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

case $action in
create)
    queued create --node-id="$NAME" ${SPOT:+--spot} --accelerator-type="${TYPE:-v5litepod-16}" \
        --runtime-version="${VERSION:-v2-alpha-tpuv5-lite}"
    while true; do
        now=$(state)
        case $now in
        ACTIVE) break ;;
        FAILED | SUSPENDING | SUSPENDED)
            echo "error: the request is $now: delete it, then create it again" >&2
            exit 1
            ;;
        esac
        echo "$now" >&2
        sleep "${POLL:-60}"
    done
    repository=${REPOSITORY:-$(git config --get remote.origin.url)}
    everywhere "set -e
        sudo apt-get install -y make git ${SHARE:+nfs-common}
        ${SHARE:+sudo mkdir -p /mnt/runs && sudo mount $SHARE /mnt/runs && sudo chmod a+rwx /mnt/runs}
        python3 -m pip install --user uv # finds a Python that is new enough
        git clone $repository cnn && cd cnn && PATH=\$HOME/.local/bin:\$PATH make install EXTRA='tpu bucket'"
    ;;
train)
    # A host that is lost ends all of them, with a code other than 0; bad arguments have code 2.
    for attempt in 1 2 3 4 5; do
        code=0
        everywhere "cd cnn && .venv/bin/python -m experiments.train --distributed --resume $(printf '%q ' "$@")" ||
            code=$?
        if [ "$code" -eq 0 ] || [ "$code" -eq 2 ]; then exit "$code"; fi
        echo "attempt $attempt ended with code $code" >&2
        now=$(state) || continue
        if [ "$now" != ACTIVE ]; then
            echo "error: the slice is $now: delete it, create it again, and train" >&2
            exit "$code"
        fi
    done
    exit "$code"
    ;;
delete)
    queued delete --force --quiet # with its hosts
    ;;
*)
    echo "error: unknown action '$action': create, train or delete" >&2
    exit 2
    ;;
esac
