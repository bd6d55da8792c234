#!/bin/sh
# Makes databases, users and the pool what the settings say; every step can be repeated.
set -eu
# They become part of URLs and JSON, which would fail later, with a message about something else.
for name in POSTGRES AIRFLOW_DB PONTE_OWNER PONTE_TRAINER PONTE_SCORER PONTE_PROMOTER PONTE_MONITOR \
    PONTE_API PONTE_STREAM PONTE_VIEWER PONTE_ANALYST AIRFLOW_ADMIN; do
    eval "value=\${${name}_PASSWORD-}"
    case $value in *[!A-Za-z0-9._~=-]*)
        echo "init.sh: ${name}_PASSWORD may have letters, digits and . _ ~ = - only; change it in .env" >&2
        exit 1
        ;;
    esac
done
export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING # at INFO each of a hundred permissions of the UI is a line
ponte provision --own-server
airflow db migrate
# Only into an empty list: whoever has renamed or deleted `admin` does not want it back.
users=$(airflow users list --output plain) # an error is no empty list
# The password comes twice from standard input, as if typed: arguments can be seen in the list of processes.
# setsid: without a terminal, where `docker compose run` has one that would be asked instead.
if ! printf '%s\n' "$users" | grep -q '@'; then
    printf '%s\n' "$AIRFLOW_ADMIN_PASSWORD" "$AIRFLOW_ADMIN_PASSWORD" |
        setsid --wait airflow users create --role Admin --username admin --email admin@localhost \
            --firstname Ponte --lastname Admin
    # Without it Airflow shows what plugins add, Ponte's pages among them, to Op and Admin only.
    airflow roles add-perms Viewer User -a can_read -r Plugins
fi
airflow pools set ponte_score "$PONTE_SCORE_SLOTS" 'Shards that are scored at the same time, of all models'
