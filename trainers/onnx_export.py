"""A generator as an ONNX file, for those who run it without torch.

    python -m trainers.onnx_export generator.safetensors generator.onnx

Inputs are `inputs` [B,9,R,R] (see `compose.generator_input`; its base is `compose.base_image` upon `compose.beneath`, docs/decisions/026),
`latent` [B,Z] and `label` [B] int64, a place in the file's metadata `classes`, a JSON list of names; the output is `residual` [B,3,R,R],
nothing where the last of the inputs' channels says that the exemplar is valid. `compose.composite` makes the picture of both.
Wants the extra `onnx`: pip install 'longtail[onnx]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from trainers.checkpoints import read
from trainers.networks import Generator
from trainers.sampling import held
from trainers.weights import from_bytes

INPUTS = ("inputs", "latent", "label")


class Named(nn.Module):
    """Keeps the generator's names out of the way of the tracer's own: a graph has a `code` too."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, inputs: Tensor, latent: Tensor, label: Tensor) -> Tensor:
        return held(self.generator, self.generator(inputs, latent, label), inputs[:, 8:9])


def to_onnx(generator: Generator, *, classes: str) -> bytes:
    """The generator at its full resolution, for batches of any size; `classes` are its classes' names as JSON."""
    size = generator.config.resolution_px
    example = torch.zeros(2, 9, size, size), torch.zeros(2, generator.config.latent), torch.zeros(2, dtype=torch.long)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        Named(generator).eval(), example, dynamo=True, input_names=list(INPUTS), output_names=["residual"], verbose=False,
        dynamic_shapes={name: {0: batch} for name in INPUTS},
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key="classes", value=classes)
    return bytes(model.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    weights = arguments.weights.read_bytes()
    arguments.out.write_bytes(to_onnx(from_bytes(weights).generator, classes=read(weights)[1]["classes"]))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
