"""The exported generator computes what the generator computes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from longtail.recipes import NetworkConfig
from trainers import weights
from trainers.architectures import build_generator
from trainers.sampling import held


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("architecture", ["comodulated", "dcgan"])
def test_the_exported_generator_is_the_generator(tmp_path, architecture):
    small = NetworkConfig(architecture=architecture, resolution_px=32, smallest_px=32, widths=(8, 12, 16), latent=8, style=16)
    generator = build_generator(small, num_classes=3).eval()
    for p in generator.parameters():  # branches that begin at zero would hide a mistake
        torch.nn.init.normal_(p, std=0.1)
    (tmp_path / "g.safetensors").write_bytes(weights.to_bytes(generator, classes=["a", "b", "c"]))
    command = [sys.executable, "-m", "trainers.onnx_export", str(tmp_path / "g.safetensors"), str(tmp_path / "g.onnx")]
    subprocess.run(command, check=True, capture_output=True)
    session = onnxruntime.InferenceSession((tmp_path / "g.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["a", "b", "c"]
    for count in (1, 2, 5):
        inputs = torch.cat([torch.randn(count, 8, 32, 32), torch.rand(count, 1, 32, 32).round()], 1)
        latent, label = torch.randn(count, 8), torch.randint(3, (count,))
        (made,) = session.run(["residual"], {"inputs": inputs.numpy(), "latent": latent.numpy(), "label": label.numpy()})
        with torch.no_grad():
            wanted = held(generator, generator(inputs, latent, label), inputs[:, 8:]).numpy()
        assert made.shape == (count, 3, 32, 32) and np.abs(wanted).max() > 0.1
        assert np.abs(made - wanted).max() < 1e-4
        assert architecture == "dcgan" or not made[inputs[:, 8:].expand(-1, 3, -1, -1).numpy() == 1].any(), "what is valid is left alone"
