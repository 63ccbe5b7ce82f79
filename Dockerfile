# The host tool with every exporter, and everything that emulation needs:
#   docker build --tag ulsam-deploy .
#   docker run --rm --volume "$PWD:/work" ulsam-deploy export model.pt --target all
# pip's own index has torch with CUDA; --build-arg TORCH_INDEX=... names the address of PyTorch's wheels for CPUs, which
# are far smaller.
FROM debian:bookworm-slim
ARG TORCH_INDEX=""
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates gcc gpgv libc6-dev openssh-client python3-venv qemu-user \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
COPY . /opt/src
RUN /opt/venv/bin/pip install --no-cache-dir --constraint /opt/src/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
RUN /opt/venv/bin/pip install --no-cache-dir --constraint /opt/src/constraints.txt '/opt/src[all]'
RUN /opt/venv/bin/ulsam-deploy doctor
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /work
ENTRYPOINT ["ulsam-deploy"]
