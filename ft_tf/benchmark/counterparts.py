"""Which networks the benchmark has in PyTorch too, by name alone."""

import re

from ft_tf import errors
from ft_tf.benchmark import jobs

# The library's name, and torchvision's.
TORCHVISION = {
  'efficientnetb0': 'efficientnet_b0',
  'mobilenetv2': 'mobilenet_v2',
  'mobilenetv3small': 'mobilenet_v3_small',
  'resnet50': 'resnet50',
}
# Of these depths the library's name means a network of keras.applications.
_OF_KERAS = (50, 152)
# Smaller images are shrunk less here; see `models.applications`.
LEAST_SIZE = 96  # pixels


def cifar_depth(name: str) -> int | None:
  """Returns the depth of a `resnet<6n+2>`; None for other networks."""
  match = re.fullmatch(r'resnet(\d+)', name)
  depth = int(match[1]) if match else 0
  return (
    depth if depth >= 8 and depth % 6 == 2 and depth not in _OF_KERAS else None
  )


def check(job: jobs.Job) -> None:
  """Checks that PyTorch has both networks of a job, for its images.

  Raises:
    UsageError: it has not.
  """
  for flag in ('teacher', 'student'):
    name = getattr(job, flag)
    if name not in TORCHVISION and cifar_depth(name) is None:
      raise errors.UsageError(
        f'--{flag}={name} has no counterpart in PyTorch here: give '
        f'resnet<6n+2>, {", ".join(TORCHVISION)}, or leave steps and networks '
        'out of --sections'
      )
    if name in TORCHVISION and job.image_size < LEAST_SIZE:
      raise errors.UsageError(
        f'--{flag}={name} differs from that of PyTorch for images of '
        f'{job.image_size} pixels, which ft_tf shrinks less: give '
        f'--image_size={LEAST_SIZE} or more'
      )


def packages(job: jobs.Job) -> tuple[str, ...]:
  """Returns the packages that make a job's networks in PyTorch."""
  if {job.teacher, job.student}.isdisjoint(TORCHVISION):
    return ('torch',)
  return ('torch', 'torchvision')
