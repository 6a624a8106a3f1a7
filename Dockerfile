# docker build -t nearhit .                           serves on the CPU; torch without CUDA
# docker build -t nearhit:cuda --build-arg DEVICE=cuda .    several GB larger; run it with --gpus all
# docker build -t nearhit-federated --build-arg EXTRAS="providers federated" .    with Flower
# docs/deployment.md says how to run it. `python -m tests.deploy.rehearse` runs the commands below
# without Docker.
FROM python:3.11-slim-bookworm AS build
# A compiler, for hnswlib, which has no wheels. Its version is the distribution's business.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
# HNSWLIB_NO_NATIVE: what is compiled here has to run on other processors than this one.
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/src/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    HNSWLIB_NO_NATIVE=1 \
    HF_HUB_OFFLINE=1
WORKDIR /src
RUN python -m venv /opt/nearhit
# What is needed comes before our code, so that a change of the code downloads nothing.
COPY pyproject.toml constraints.txt ./
# torch first, as in the Makefile: no looser range can fetch another build then.
ARG DEVICE=cpu
RUN case "$DEVICE" in \
        cpu) /opt/nearhit/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu ;; \
        cuda) /opt/nearhit/bin/pip install torch==2.13.0 ;; \
        *) echo "DEVICE: '$DEVICE' is not allowed; allowed: cpu, cuda" >&2; exit 2 ;; \
    esac
ARG EXTRAS=providers
RUN python -c "import os, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *(r for e in os.environ['EXTRAS'].split() for r in p['optional-dependencies'][e]), sep='\n')" > needed.txt \
    && /opt/nearhit/bin/pip install -r needed.txt
COPY README.md LICENSE NOTICE ./
COPY proxy ./proxy
COPY embed ./embed
COPY store ./store
COPY federated ./federated
COPY icl ./icl
RUN /opt/nearhit/bin/pip install --no-deps .
# From elsewhere than the sources, so that it is the installed package that builds it.
WORKDIR /opt/nearhit
RUN /opt/nearhit/bin/python -m embed.export \
    && /opt/nearhit/bin/pip check \
    && /opt/nearhit/bin/pip uninstall -y pip

FROM python:3.11-slim-bookworm
# libgomp1: hnswlib is linked against it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 nearhit \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/nearhit --shell /usr/sbin/nologin nearhit \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/nearhit
COPY --from=build /opt/nearhit /opt/nearhit
COPY deploy/entrypoint.sh /usr/local/bin/nearhit-entrypoint
COPY deploy/health.py /usr/local/bin/nearhit-health
# Nothing is fetched while it runs, and nothing is written but to /var/lib/nearhit and /tmp.
ENV PATH=/opt/nearhit/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    NEARHIT_CONFIG=/etc/nearhit/nearhit.yaml
WORKDIR /var/lib/nearhit
# By number, so that a platform can see that it is not root.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["nearhit-health"]
ENTRYPOINT ["nearhit-entrypoint", "nearhit"]
# The command line wins over the file, so the image always listens where it says.
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
