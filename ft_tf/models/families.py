"""Families of networks from small to large, by name alone."""

import re

from ft_tf import errors

_DEPTHS = (8, 14, 20, 26, 32, 44, 56, 110)
_WIDTHS = (1, 2, 3, 4, 6, 8, 10)
_ALPHAS = ('0.35', '0.5', '0.75', '1', '1.3')


def family(name: str) -> tuple[str, ...]:
  """Returns a network's family, the smallest first.

  The family of a CIFAR ResNet is its depths at the same width, of a wide ResNet
  its widths at the same depth, of a MobileNet its widths, and of an
  EfficientNet its numbers.

  Args:
    name: As in `zoo.NAMES`.

  Raises:
    UsageError: it is a file, or a network without a family.
  """
  match = re.fullmatch(r'resnet(\d+)(x[\d.]+)?(-parameter-free)?', name)
  if match and (int(match[1]) - 2) % 6 == 0:
    rest = (match[2] or '') + (match[3] or '')
    return tuple(f'resnet{depth}{rest}' for depth in _DEPTHS)
  match = re.fullmatch(r'wrn-(\d+)-\d+', name)
  if match:
    return tuple(f'wrn-{match[1]}-{width}' for width in _WIDTHS)
  match = re.fullmatch(r'(mobilenetv2|mobilenetv3(?:small|large))(x.+)?', name)
  if match:
    return tuple(f'{match[1]}x{alpha}' for alpha in _ALPHAS)
  match = re.fullmatch(r'(efficientnetb)[0-7]|(efficientnetv2b)[0-3]', name)
  if match:
    stem, count = (match[1], 8) if match[1] else (match[2], 4)
    return tuple(f'{stem}{number}' for number in range(count))
  raise errors.UsageError(
    f'--student={name} has no family to choose from: with --max_bytes, '
    '--max_latency_ms or --max_ram give a resnet<6n+2>, wrn-<6n+4>-<width>, '
    'mobilenetv2, mobilenetv3small, mobilenetv3large, efficientnetb0 or '
    'efficientnetv2b0'
  )
