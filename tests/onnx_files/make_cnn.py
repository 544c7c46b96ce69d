r"""Makes cnn.onnx and cnn.npz, which the tests of ONNX teachers read.

  python tests/onnx_files/make_cnn.py tests/onnx_files

Needs torch and onnx (requirements-benchmark.txt). The network is a small one
as torchvision has them: images [N, 3, H, W], normalised before, in float32.
"""

import os
import sys

import numpy as np
import torch
from torch import nn

_MAPS = {'/stem/relu/Relu_output_0': 'stem', '/relu/Relu_output_0': 'relu'}


class Cnn(nn.Module):
  """A stem, a residual block with stride 2, and a linear classifier."""

  def __init__(self) -> None:
    super().__init__()
    self.stem = nn.Sequential()
    self.stem.add_module('conv', nn.Conv2d(3, 6, 3, padding=1, bias=False))
    self.stem.add_module('bn', nn.BatchNorm2d(6))
    self.stem.add_module('relu', nn.ReLU())
    self.pool = nn.MaxPool2d(3, stride=2, padding=1)
    self.conv = nn.Conv2d(6, 10, 3, stride=2, padding=1)
    self.shortcut = nn.Conv2d(6, 10, 1, stride=2)
    self.relu = nn.ReLU()
    self.fc = nn.Linear(10, 3)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.pool(self.stem(x))
    x = self.relu(self.conv(x) + self.shortcut(x))
    return self.fc(x.mean((2, 3)))


def main(folder: str) -> None:
  """Writes the two files."""
  torch.manual_seed(0)
  network = Cnn()
  with torch.no_grad():  # Fresh statistics would leave batch norm out.
    network.stem.bn.running_mean.uniform_(-1, 1)
    network.stem.bn.running_var.uniform_(0.5, 2)
    network.stem.bn.weight.uniform_(0.5, 2)
    network.stem.bn.bias.uniform_(-1, 1)
  network.eval()
  raw = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  images = torch.tensor((raw / 255 - mean) / std).permute(0, 3, 1, 2).float()
  maps = {}
  for name, module in (('stem', network.stem.relu), ('relu', network.relu)):
    module.register_forward_hook(
      lambda _, __, output, name=name: maps.update(
        {name: output.detach().numpy()}
      )
    )
  with torch.no_grad():
    logits = network(images).numpy()
  np.savez_compressed(
    os.path.join(folder, 'cnn.npz'),
    images=raw,
    logits=logits,
    **{name: maps[name].transpose(0, 2, 3, 1) for name in _MAPS.values()},
  )
  torch.onnx.export(
    network,
    (images,),
    os.path.join(folder, 'cnn.onnx'),
    dynamo=False,
    input_names=['input'],
    output_names=['logits'],
    dynamic_axes={'input': {0: 'batch'}, 'logits': {0: 'batch'}},
  )


if __name__ == '__main__':
  main(sys.argv[1])
