"""The networks of the benchmark in PyTorch: images to last map and logits."""

import torch
from torch import nn
from torch.nn import functional

from ft_tf import errors
from ft_tf.benchmark import counterparts

# As in `ft_tf.factors`, which imports TensorFlow.
_WIDEST = 256
_WIDEST_MIDDLE = 256


class _Block(nn.Module):
  """ReLU(shortcut + two 3x3 convolutions with batch norm)."""

  def __init__(self, channels_in, channels, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(channels)
    self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(channels)
    self.shortcut = nn.Sequential()
    if stride != 1 or channels_in != channels:
      self.shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels, 1, stride, bias=False),
        nn.BatchNorm2d(channels),
      )

  def forward(self, x):
    y = functional.relu(self.bn1(self.conv1(x)))
    return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
  """ft_tf's `resnet<6n+2>`: normalised images to last features and logits."""

  def __init__(self, depth: int, classes: int = 10):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(16)
    groups, channels_in = [], 16
    for group, channels in enumerate((16, 32, 64)):
      blocks = []
      for block in range((depth - 2) // 6):
        stride = 2 if group and not block else 1
        blocks.append(_Block(channels_in, channels, stride))
        channels_in = channels
      groups.append(nn.Sequential(*blocks))
    self.layer1, self.layer2, self.layer3 = groups
    self.linear = nn.Linear(64, classes)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = functional.relu(self.bn1(self.conv1(x)))
    feature = self.layer3(self.layer2(self.layer1(x)))
    return feature, self.linear(feature.mean((2, 3)))


class _Torchvision(nn.Module):
  """A network of torchvision, which returns its last feature map as well."""

  def __init__(self, body, classifier):
    super().__init__()
    self.body = body
    self.pooling = nn.AdaptiveAvgPool2d(1)
    self.classifier = classifier

  def forward(self, x):
    feature = self.body(x)
    return feature, self.classifier(torch.flatten(self.pooling(feature), 1))


def build(name: str, classes: int = 10) -> nn.Module:
  """Returns the counterpart of a network of the library, with fresh weights.

  Args:
    name: One that `counterparts.check` accepts.
    classes: Number of logits.

  Returns:
    A module from normalised images `[B, 3, H, W]` to the last feature map and
    the logits.

  Raises:
    UsageError: torchvision was built for another PyTorch.
  """
  depth = counterparts.cifar_depth(name)
  if depth is not None:
    return ResNet(depth, classes)
  torchvision = _import_torchvision()
  options = {'dropout': 0.0} if name == 'mobilenetv2' else {}  # Keras has none
  network = torchvision.models.get_model(
    counterparts.TORCHVISION[name],
    weights=None,
    num_classes=classes,
    **options,
  )
  if name == 'resnet50':
    _as_keras_has_it(network)
    body = nn.Sequential(*[layer for _, layer in network.named_children()][:-2])
    return _Torchvision(body, network.fc)
  return _Torchvision(network.features, network.classifier)


def _import_torchvision():
  """Returns torchvision, an optional dependency.

  Raises:
    UsageError: it was built for another PyTorch.
  """
  try:
    import torchvision  # noqa: PLC0415
  except RuntimeError as error:  # Its operators do not load.
    raise errors.UsageError(
      f'torchvision does not load with PyTorch {torch.__version__} ({error}): '
      'install both from one source, for a CPU or for CUDA'
    ) from error
  return torchvision


def _as_keras_has_it(network: nn.Module) -> None:
  """Makes torchvision's ResNet that of keras.applications.

  Keras's has biases in its convolutions, and the strides of the paper: in the
  first 1x1 convolution of a group, torchvision's in the 3x3 after it.
  """
  for block in (network.layer2[0], network.layer3[0], network.layer4[0]):
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
  for layer in network.modules():
    if isinstance(layer, nn.Conv2d):
      layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0, 0, 0]))


def randomize_batch_norm(network: nn.Module) -> nn.Module:
  """Sets random offsets and means of batch norm, as a trained network has."""
  with torch.no_grad():
    for layer in network.modules():
      if isinstance(layer, nn.BatchNorm2d):
        layer.bias.normal_(0, 0.1)
        layer.running_mean.normal_(0, 0.1)
  return network


def chain(channels_in: int, channels: int) -> nn.Sequential:
  """Returns three convolutions: the paraphraser's encoder or a translator.

  They have the paper's form, or for more than 256 channels the bottleneck form;
  see `ft_tf.factors`.
  """
  widest = max(channels_in, channels)
  widths, sizes = (channels_in, channels, channels), (3, 3, 3)
  if widest > _WIDEST:
    middle = min(widest // 2, _WIDEST_MIDDLE)
    widths, sizes = (middle, middle, channels), (1, 3, 1)
  layers = []
  for width, size in zip(widths, sizes, strict=True):
    layers += [
      nn.Conv2d(channels_in, width, size, padding=size // 2),
      nn.LeakyReLU(0.1),
    ]
    channels_in = width
  return nn.Sequential(*layers)
