"""Factor transfer (Kim, Park and Kwak 2018): ft, and it without its halves."""

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, factors, losses
from ft_tf.methods import base
from ft_tf.models import feature_maps, layer_choice, taps


class FactorTransfer(base.Method):
  """The student's translator learns to speak the paraphraser's factors.

  Signal: the paraphraser's factor of a feature map of the teacher's. Adapter:
  the translator. Loss: `losses.factor_transfer` (paper, equations 3 and 5).
  Without a paraphraser the signal is the feature map itself; without a
  translator the student's feature map is the student factor (the paper's
  ablations). Where the maps differ in height and width, the larger is averaged
  to the smaller: the teacher's factor, or the student's feature map.

  Attributes:
    name: 'factor_transfer', with a number behind it if there are several.
    elements: Elements of a factor, H * W * C.
  """

  def __init__(
    self,
    *,
    teacher: keras.Model,
    paraphraser: factors.Paraphraser | None,
    student: keras.Model,
    beta: float,
    p: int,
    beta_elements: int = 0,
    normalized: str = 'elements',
    teacher_layer: str | None = None,
    student_layer: str | None = None,
    translates: bool = True,
    batch_norm: str = '',
    precision: str = 'float32',
    number: int = 0,
  ):
    """Ties a student to a teacher.

    Args:
      teacher: From raw images to logits; trained.
      paraphraser: Trained on the teacher's feature map; None: the factor is
        the map itself.
      student: From raw images to logits.
      beta: Weight of the loss.
      p: Norm of the loss, 1 or 2.
      beta_elements: Elements of the factor that beta is for; for N elements it
        is multiplied by (N / beta_elements)^(p/2), since an element of a unit
        factor shrinks by 1/sqrt(N). 0 takes beta as it stands.
      normalized: As of `losses.factor_transfer`.
      teacher_layer: The teacher's layer with the map; None: its last one.
      student_layer: The student's, likewise.
      translates: Whether there is a translator.
      batch_norm: The translator's; see `factors.Translator`.
      precision: Keras's dtype policy that signal and translator compute in.
      number: Of the pair of layers among several, from 1; 0: it is the only.

    Raises:
      UsageError: the paraphraser is not of this teacher, or there is no
        translator and the channels differ.
    """
    self.name = f'factor_transfer_{number}' if number else 'factor_transfer'
    self._p = p
    self._normalized = normalized
    self._theirs = teacher_layer or layer_choice.last_feature_map(teacher)
    self._ours = student_layer or layer_choice.last_feature_map(student)
    self.teacher_layers = (self._theirs,)
    self.student_layers = (self._ours,)
    theirs = feature_maps.shape(teacher, self._theirs)
    ours = feature_maps.shape(student, self._ours)
    self._size = tuple(np.minimum(theirs[:2], ours[:2]).tolist())
    self.says = {
      'signal': 'factor',
      'layers': self.teacher_layers,
      'size': self._size,
    }
    self.match = f'{self.name}: from ' + ' to '.join(
      _said(name, layer, shape, self._size)
      for name, layer, shape in (
        ("teacher's", self._theirs, theirs),
        ("student's", self._ours, ours),
      )
    )
    channels = theirs[-1]
    self._paraphraser = None
    if paraphraser is not None:
      takes = paraphraser.encoder[0].kernel.shape[2]
      if takes != channels:
        raise errors.UsageError(
          f'the paraphraser was trained on {takes} channels, the teacher has '
          f'{channels}: train the paraphraser of this teacher'
        )
      if paraphraser.layer not in ('', self._theirs):
        raise errors.UsageError(
          f'the paraphraser was trained on the layer {paraphraser.layer}, not '
          f'{self._theirs}: give --teacher_layer={paraphraser.layer}, or train '
          'the paraphraser of that layer'
        )
      paraphraser.trainable = False
      self.frozen = (paraphraser,)
      channels = paraphraser.encoder[-1].filters
      self._paraphraser = factors.Paraphraser(paraphraser.rate, dtype=precision)
      self._paraphraser.build((None, *theirs))
      self._paraphraser.set_weights(paraphraser.get_weights())
    if translates:
      # The loss does not see the scale of the student factor, which may grow
      # beyond what float16 holds.
      wide = 'float32' if precision == 'mixed_float16' else precision
      self.adapter = factors.Translator(
        channels, batch_norm=batch_norm, name='translator', dtype=wide
      )
      self.adapter.build((None, *ours))
    elif ours[-1] != channels:
      raise errors.UsageError(
        f'without a translator the factors must have as many channels, they '
        f'have {channels} in the teacher and {ours[-1]} in the student: give '
        f'--rate={ours[-1] / theirs[-1]:g}'
      )
    self.elements = int(np.prod(self._size)) * channels
    self.weight = beta
    if beta_elements:
      self.weight *= (self.elements / beta_elements) ** (p / 2)

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher factor, `[B, H, W, mk]`."""
    factor = teacher.features[self._theirs]
    if self._paraphraser is not None:
      factor = self._paraphraser.encode(factor)
    return taps.average_to_size(factor, self._size)

  def adapt(self, student: base.Outputs, *, training=False) -> tf.Tensor:
    """Returns the student factor, `[B, H, W, mk]`."""
    feature = taps.average_to_size(student.features[self._ours], self._size)
    if self.adapter is None:
      return feature
    return self.adapter(feature, training=training)

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    return losses.factor_transfer(
      adapted, signal, p=self._p, normalized=self._normalized
    )


def _said(whose, layer, shape, size) -> str:
  """Returns a layer in words, and how its map comes to the factors' size."""
  said = f'the {whose} {layer}, {"x".join(map(str, shape))}'
  if shape[:2] != size:
    said += f', averaged to {size[0]}x{size[1]}'
  return said
