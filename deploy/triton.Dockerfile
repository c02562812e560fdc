# NVIDIA's Triton with ride-server in its Python: serves the bundled model, or yours.
#
#   docker build -f deploy/triton.Dockerfile -t ride-triton .
#
# Any release with Python 3.11 or newer and the ONNX Runtime backend will do: those from 25.01 on.
ARG TRITON=25.03
FROM nvcr.io/nvidia/tritonserver:${TRITON}-py3
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ride.py ./
COPY serving serving
COPY columns columns
COPY scoring scoring
COPY training training
COPY export export
COPY verify verify
COPY benchmarks benchmarks
# Its own numpy stays: Triton's Python backend was built for it. CuPy (for GPUs) is up to you.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-cache-dir --no-deps . \
    && PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-cache-dir -c constraints.txt \
        pillow pydantic simplejpeg
COPY model_repository /srv/model_repository
WORKDIR /srv
# For Triton's ONNX Runtime backend, where its release has telemetry: nothing of ours runs before it.
ENV ORT_DISABLE_TELEMETRY=1
CMD ["tritonserver", "--model-repository=/srv/model_repository"]
