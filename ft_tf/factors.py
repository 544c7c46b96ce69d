"""Paraphraser and translator: they turn feature maps into factors.

Both follow the paper's section 3 and the public code: 3x3 kernels, bias,
LeakyReLU(0.1) after every layer including the last one, no batch norm.

The paper's maps have 64 channels, those of ImageNet networks up to 2,048. Three
full 3x3 layers of these are larger than the networks themselves (132 M weights
for a ResNet50 of 24 M). There the chain narrows in the middle, as a residual
bottleneck does (He et al. 2016, arXiv:1512.03385, figure 5): 1x1 down, 3x3, 1x1
up. What goes in, what comes out and the activations stay as they are.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ft_tf import errors, python_arguments
from ft_tf.models import layers

_SLOPE = 0.1
# The paper's form, the bottleneck form, or that which the width asks for.
FORMS = ('auto', 'paper', 'bottleneck')
_MOST_CHANNELS = 2**31 - 1  # that a convolution of TensorFlow can have
_WIDEST = 256  # channels of the widest map that 'auto' gives the paper's form
_WIDEST_MIDDLE = 256  # channels of a bottleneck's 3x3 layer


def _leaky_relu(x):
  """Returns LeakyReLU(0.1).

  Written as a maximum: TensorFlow's graph optimiser would fuse its LeakyRelu
  with the convolution, fail on the gradient, and leave the whole graph
  unoptimised.
  """
  return ops.maximum(x, _SLOPE * x)


class _Chain(keras.Model):
  """A model that makes its layers once the number of channels is known."""

  built: bool

  def __init__(self, form: str, **kwargs: Any):
    """Takes the form, one of `FORMS`.

    Raises:
      UsageError: there is no such form.
    """
    super().__init__(**kwargs)
    python_arguments.check_choice('form', form, FORMS)
    self.form = form

  def _settle_form(self, *channels):
    """Makes 'auto' the form that the widest map asks for."""
    if self.form == 'auto':
      self.form = 'paper' if max(channels) <= _WIDEST else 'bottleneck'

  def _convolutions(self, kind, channels_in, channels, names, batch_norm=''):
    """Returns three layers, the first one for `channels_in` channels.

    Args:
      kind: `keras.layers.Conv2D` or `keras.layers.Conv2DTranspose`.
      channels_in: Channels of the input.
      channels: Output channels of each layer in the paper's form.
      names: Name of each layer.
      batch_norm: As in `Translator`; batch norm stands between the layer and
        its activation.
    """
    sizes = (3, 3, 3)
    if self.form == 'bottleneck':
      widest = max(channels_in, *channels)
      middle = max(1, min(widest // 2, _WIDEST_MIDDLE))
      channels, sizes = (middle, middle, channels[-1]), (1, 3, 1)
    chain = []
    for name, channels_out, size in zip(names, channels, sizes, strict=True):
      # PyTorch computes the fan-in of a transposed kernel from its outputs.
      transposed = kind is keras.layers.Conv2DTranspose
      fan = size**2 * (channels_out if transposed else channels_in)
      layer = kind(
        channels_out,
        size,
        padding='same',
        activation=None if batch_norm else _leaky_relu,
        kernel_initializer=layers.uniform_fan_in(),
        bias_initializer=layers.uniform_bias(fan),
        dtype=self.dtype_policy,
        name=name,
      )
      layer.build((None, None, None, channels_in))
      chain.append(layer)
      if batch_norm:
        norm = keras.layers.BatchNormalization(
          momentum=0.9,
          epsilon=1e-5,
          synchronized=batch_norm == 'synchronized',
          dtype=self.dtype_policy,
          name=f'{name}_bn',
        )
        norm.build((None, None, None, channels_out))
        chain += [norm, keras.layers.Activation(_leaky_relu)]
      channels_in = channels_out
    return chain

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), 'form': self.form}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> '_Chain':
    # A file of an earlier version has the paper's form, whatever its width.
    return super().from_config({'form': 'paper', **config})

  def _channels(self, shape):
    if len(shape) != 4 or shape[-1] is None:
      raise ValueError(
        f'{type(self).__name__} takes a feature map [B, H, W, C] with a known '
        f'C, not {tuple(shape)}'
      )
    return shape[-1]


@keras.saving.register_keras_serializable('ft_tf')
class Paraphraser(_Chain):
  """The autoencoder of a teacher's feature map (paper, section 3.1).

  Three 3x3 convolutions m -> m -> mk -> mk compute the teacher factor; three
  3x3 transposed convolutions mk -> mk -> m -> m reconstruct the feature map.
  The bottleneck form has layers of 1x1, 3x3 and 1x1, m -> w -> w -> mk, then
  mk -> w -> w -> m; w is half of the larger of m and mk, and 256 at most.

  Attributes:
    rate: The paraphrase rate k, factor channels divided by feature channels.
    layer: The teacher's layer that it was trained on; '' if unknown.
    form: 'paper' or 'bottleneck'; until it is built perhaps 'auto'.
  """

  def __init__(
    self,
    rate: float = 0.5,
    *,
    layer: str = '',
    form: str = 'auto',
    **kwargs: Any,
  ):
    """Makes a paraphraser; the first input's channels determine its weights.

    Args:
      rate: The paraphrase rate k, above 0.
      layer: See the attribute.
      form: 'paper', 'bottleneck', or 'auto': the paper's form for maps and
        factors of up to 256 channels, the bottleneck form for wider ones.
      **kwargs: See `keras.Model`.

    Raises:
      UsageError: the rate is no number above 0, or there is no such form.
    """
    super().__init__(form, **kwargs)
    python_arguments.check_number('rate', rate)
    if rate <= 0:
      raise errors.UsageError(
        f'rate={rate}: the paraphrase rate must be above 0'
      )
    self.rate = rate
    self.layer = layer

  def build(self, input_shape: Sequence[int | None]) -> None:
    """Makes the weights for a feature map `[B, H, W, m]`.

    Raises:
      UsageError: the rate leaves no channel for the factor.
      ValueError: the shape is not that of a feature map.
    """
    if self.built:
      return
    channels = self._channels(input_shape)
    factor_channels = round(channels * self.rate)
    if factor_channels < 1:
      raise errors.UsageError(
        f'--rate={self.rate} of {channels} feature channels leaves no factor: '
        f'give {1 / channels:g} or more'
      )
    self._settle_form(channels, factor_channels)
    self.encoder = self._convolutions(
      keras.layers.Conv2D,
      channels,
      (channels, factor_channels, factor_channels),
      ('encode1', 'encode2', 'encode3'),
    )
    self.decoder = self._convolutions(
      keras.layers.Conv2DTranspose,
      factor_channels,
      (factor_channels, channels, channels),
      ('decode1', 'decode2', 'decode3'),
    )
    self.built = True

  def encode(self, x: tf.Tensor) -> tf.Tensor:
    """Returns the teacher factor `[B, H, W, round(mk)]` of `[B, H, W, m]`."""
    self.build(x.shape)
    for layer in self.encoder:
      x = layer(x)
    return x

  def decode(self, factor: tf.Tensor) -> tf.Tensor:
    """Returns the feature map `[B, H, W, m]` of a factor `[B, H, W, mk]`.

    Raises:
      ValueError: the weights are not built yet, because m is unknown.
    """
    if not self.built:
      raise ValueError('call encode() or build() first: m is not known yet')
    for layer in self.decoder:
      factor = layer(factor)
    return factor

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns the reconstruction of `[B, H, W, m]`, of the same shape."""
    return self.decode(self.encode(inputs))

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), 'rate': self.rate, 'layer': self.layer}


@keras.saving.register_keras_serializable('ft_tf')
class Translator(_Chain):
  """Computes the student factor from a feature map (paper, section 3.2).

  Three 3x3 convolutions m_s -> m_s -> channels -> channels. The bottleneck form
  has layers of 1x1, 3x3 and 1x1, m_s -> w -> w -> channels; w is half of the
  larger of m_s and channels, and 256 at most.

  Attributes:
    channels: Channels of the factor, as many as the teacher factor has.
    batch_norm: '' for none, 'own' or 'synchronized'.
    form: As of `Paraphraser`.
  """

  def __init__(
    self,
    channels: int,
    batch_norm: str = '',
    *,
    form: str = 'auto',
    **kwargs: Any,
  ):
    """Makes a translator; the first input's channels determine its weights.

    Args:
      channels: Channels of the factor, at least 1.
      batch_norm: 'own' or 'synchronized' adds batch norm after each
        convolution, with the statistics of each replica or of all replicas, as
        in RepDistiller. '' adds none, as in the paper.
      form: As of `Paraphraser`; the widest of student map and factor decides.
      **kwargs: See `keras.Model`.

    Raises:
      UsageError: there is no such form, or `channels` is no number of them.
    """
    super().__init__(form, **kwargs)
    python_arguments.check_count('channels', channels, _MOST_CHANNELS)
    self.channels = channels
    self.batch_norm = batch_norm

  def build(self, input_shape: Sequence[int | None]) -> None:
    """Makes the weights for a feature map `[B, H, W, m_s]`.

    Raises:
      ValueError: the shape is not that of a feature map.
    """
    if self.built:
      return
    student_channels = self._channels(input_shape)
    self._settle_form(student_channels, self.channels)
    self.translate = self._convolutions(
      keras.layers.Conv2D,
      student_channels,
      (student_channels, self.channels, self.channels),
      ('translate1', 'translate2', 'translate3'),
      batch_norm=self.batch_norm,
    )
    self.built = True

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns the student factor `[B, H, W, channels]`."""
    for layer in self.translate:
      if isinstance(layer, keras.layers.BatchNormalization):
        inputs = layer(inputs, training=training)
      else:
        inputs = layer(inputs)
    return inputs

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      'channels': self.channels,
      'batch_norm': self.batch_norm,
    }
