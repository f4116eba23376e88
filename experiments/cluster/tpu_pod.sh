#!/usr/bin/env bash
# A run on a TPU pod slice from your own machine, the same command on each of its hosts:
#
#   NAME=my-tpu ZONE=us-west4-a experiments/cluster/tpu_pod.sh --config=images --workdir=gs://BUCKET/runs/images
#
# The TPU must be there (`gcloud compute tpus tpu-vm create`). Arguments are the launcher's. Launched again, the run goes
# on from its newest checkpoint.
set -euo pipefail
: "${NAME:?the name of the TPU}" "${ZONE:?the zone of the TPU}"
repository=${REPOSITORY:-$(git config --get remote.origin.url)}

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

arguments=$(printf ' %q' "$@")
on_all_hosts "test -d gan_jax || git clone -q $(printf %q "$repository") gan_jax"
on_all_hosts "cd gan_jax && python3 -m pip install -q -e '.[gcs]' 'jax[tpu]'"
on_all_hosts "cd gan_jax && exec python3 launch.py$arguments"
