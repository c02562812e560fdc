# The serving image: embedded server and bundled model, no PyTorch.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ride.py ./
COPY serving serving
COPY columns columns
COPY scoring scoring
COPY training training
COPY export export
COPY verify verify
COPY benchmarks benchmarks
RUN python -m venv /opt/ride \
    && /opt/ride/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 ride
COPY --from=build /opt/ride /opt/ride
COPY --chown=root:root model_repository /srv/model_repository
USER ride
WORKDIR /srv
ENV PATH=/opt/ride/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RIDE_HOST=0.0.0.0 \
    RIDE_PORT=8000
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD python -c "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"RIDE_PORT\"]}/v2/health/ready', timeout=2)"
CMD ["ride", "serve", "/srv/model_repository"]
