"""Layers with the constants and initial values of the paper's public code.

That code is PyTorch: its default initialisers (Kaiming uniform with a = sqrt 5,
which is U(+-1/sqrt(fan_in)) for kernel and bias alike), batch norm with epsilon
1e-5 and momentum 0.1 (Keras's 0.9), and strided convolutions padded evenly on
both sides, where Keras's 'same' pads one side more.
"""

import dataclasses
import math
from collections.abc import Sequence

import keras

# Of the moving statistics of batch norm in every network that is trained.
# Keras's, 0.99 to 0.9997, average over hundreds of steps and more: after a
# short training the statistics would still be near those that it began with,
# initial ones or those of the images that a file was trained on.
MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Spec:
  """What a network needs to know of the data and of the run.

  Attributes:
    image_shape: `(H, W, C)` of the raw images.
    classes: Number of logits.
    mean: Channel means of images in [0, 1].
    std: Channel standard deviations of images in [0, 1].
    sync_batch_norm: Whether batch norm takes statistics over all replicas.
    precision: Keras's dtype policy, such as 'mixed_bfloat16'.
  """

  image_shape: tuple[int, int, int]
  classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  sync_batch_norm: bool = False
  precision: str = 'float32'


def uniform_fan_in() -> keras.initializers.Initializer:
  """Returns PyTorch's default kernel initialiser, U(+-1/sqrt(fan_in))."""
  return keras.initializers.VarianceScaling(1 / 3, 'fan_in', 'uniform')


def uniform_bias(fan_in: int) -> keras.initializers.Initializer:
  """Returns PyTorch's default bias initialiser, U(+-1/sqrt(fan_in))."""
  bound = 1 / math.sqrt(fan_in)
  return keras.initializers.RandomUniform(-bound, bound)


def images(spec: Spec) -> tuple[keras.KerasTensor, keras.KerasTensor]:
  """Returns the input, raw images `[B, H, W, C]` uint8, and it normalised."""
  inputs = keras.Input(spec.image_shape, dtype='uint8', name='image')
  return inputs, normalization(spec.mean, spec.std, name='normalize')(inputs)


def normalization(
  mean: Sequence[float], std: Sequence[float], *, name: str
) -> keras.layers.Normalization:
  """Returns the layer that normalises raw images of 0..255.

  Args:
    mean: Channel means of images in [0, 1].
    std: Channel standard deviations of images in [0, 1].
    name: The layer's.
  """
  return keras.layers.Normalization(
    mean=[255 * each for each in mean],
    variance=[(255 * each) ** 2 for each in std],
    name=name,
  )


def convolution(
  x: keras.KerasTensor,
  channels: int,
  *,
  name: str,
  size: int = 3,
  stride: int = 1,
  bias: bool = False,
  initializer: keras.initializers.Initializer | None = None,
) -> keras.KerasTensor:
  """Returns a convolution of `x`, padded evenly by half the kernel's size.

  The kernel's default initialiser is `uniform_fan_in`.
  """
  same = stride == 1 or size == 1
  if not same:
    x = keras.layers.ZeroPadding2D(size // 2, name=f'{name}_pad')(x)
  return keras.layers.Conv2D(
    channels,
    size,
    strides=stride,
    padding='same' if stride == 1 else 'valid',
    use_bias=bias,
    kernel_initializer=initializer or uniform_fan_in(),
    bias_initializer=uniform_bias(size * size * x.shape[-1]),
    name=name,
  )(x)


def batch_norm(
  x: keras.KerasTensor, spec: Spec, *, name: str
) -> keras.KerasTensor:
  """Returns `x` normalised with the public code's constants."""
  return keras.layers.BatchNormalization(
    momentum=MOMENTUM,
    epsilon=1e-5,
    synchronized=spec.sync_batch_norm,
    name=name,
  )(x)


def relu(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
  return keras.layers.ReLU(name=name)(x)


def logits(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
  """Returns the logits `[B, classes]`, float32, of a last feature map."""
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  return keras.layers.Dense(
    spec.classes,
    kernel_initializer=uniform_fan_in(),
    bias_initializer=uniform_bias(x.shape[-1]),
    dtype='float32',
    name='logits',
  )(x)
