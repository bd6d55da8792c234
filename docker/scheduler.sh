#!/bin/sh
# CeleryExecutor where there is a broker, else LocalExecutor: a profile of compose adds services, but changes none.
set -eu
broker() { getent hosts redis >/dev/null; }
if broker; then
    export AIRFLOW__CORE__EXECUTOR=CeleryExecutor
else
    export AIRFLOW__CORE__EXECUTOR=LocalExecutor
    # Compose leaves a scheduler that runs as it is when the profile joins later. So look for it, and end the scheduler
    # gracefully (it has the pid of this shell); the restart policy begins anew, with Celery.
    # Doubly in the background, so that init and not the scheduler is the parent.
    ( (until broker; do sleep 10; done; kill -TERM $$) & )
fi
exec airflow scheduler
